//! URLs without secrets, for logs and messages.

/// Returns a URL with stars for its password, its query and its fragment.
///
/// A text that is not a URL, such as a path, is returned unchanged. Of a malformed URL only the scheme
/// is returned, because the password may be anywhere in it.
pub fn redacted_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Without a scheme it may be `user:password@host`.
        return match text.rsplit_once('@') {
            Some((_, host)) => format!("***@{}", without_query(host)),
            None => without_query(text),
        };
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    // With a slash in the password, the start of the password looks like the host.
    if !host.is_empty() && !is_host(host) || host.is_empty() && rest.contains('@') {
        return format!("{scheme}://***");
    }
    let path = without_query(path);
    match user {
        None => format!("{scheme}://{host}{path}"),
        Some(user) => {
            let user = match user.split_once(':') {
                Some((name, _)) => format!("{name}:***"),
                // A user name for PostgreSQL; elsewhere it may be a token.
                None if scheme.starts_with("postgres") => user.to_owned(),
                None => "***".to_owned(),
            };
            format!("{scheme}://{user}@{host}{path}")
        }
    }
}

fn is_host(text: &str) -> bool {
    text.split(',').all(|one| {
        let after_brackets = one.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match one[after_brackets..].split_once(':') {
            Some((rest, port)) => (&one[..after_brackets + rest.len()], Some(port)),
            None => (one, None),
        };
        !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok())
    })
}

fn without_query(text: &str) -> String {
    match text.find(['?', '#']) {
        Some(at) => format!("{}***", &text[..=at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_url_omits_passwords_and_queries() {
        for (url, shown) in [
            ("http://h:1/a@b:c", "http://h:1/a@b:c"),
            ("http://u:p@h/x", "http://u:***@h/x"),
            ("http://h/hooks?tok=secret", "http://h/hooks?***"),
            ("http://h/hooks#secret", "http://h/hooks#***"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("nats://token@h", "nats://***@h"),
            ("https://token@h/", "https://***@h/"),
            ("redis://:p@ss@h:6379/0", "redis://:***@h:6379/0"),
            ("amqp://u:p@h?x=@y", "amqp://u:***@h?***"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:p@h/d?password=x", "postgres://u:***@h/d?***"),
            ("postgres:///d?host=/run", "postgres:///d?***"),
            (
                "redis+unix:///run/redis.sock?pass=x",
                "redis+unix:///run/redis.sock?***",
            ),
            ("h:50051", "h:50051"),
            ("u:p@h", "***@h"),
            // Malformed, but with a password.
            ("redis://:pa/ss@h", "redis://***"),
            ("redis://u:pa?ss@h", "redis://***"),
            ("redis://u:pa#ss@h", "redis://***"),
            ("redis:///ss@h", "redis://***"),
        ] {
            assert_eq!(redacted_url(url), shown, "{url}");
        }
    }
}
