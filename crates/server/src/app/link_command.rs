//! Adds, lists and revokes upload links in the database that the server uses, and prints the URL of the upload page with
//! the secret of a new link.
//!
//! The secret is in the fragment, which browsers send to no server. It is printed once; the database has only its hash.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Context as _;
use landfall_protocol::units::size_text;
use landfall_state::queue::{GrantLimits, NewLink, Queue, Token, UploadLink};

use super::{
    keys_command::{format_expiry, format_time, open_queue, revoked},
    terminal::{columns, print, sanitize},
};
use crate::settings::{self, LinkCommand, Loaded, Settings};

/// Runs `landfall link`, with or without a running server.
///
/// # Errors
/// The database cannot be used, or the link cannot be created.
pub async fn link(loaded: Loaded, command: LinkCommand, json: bool) -> anyhow::Result<ExitCode> {
    let creates = matches!(command, LinkCommand::Add(_));
    let queue = open_queue(&loaded, creates, "link was created").await?;
    let result = match command {
        LinkCommand::Add(link) => add(&queue, link, &loaded).await,
        LinkCommand::List => list(&queue, json).await,
        LinkCommand::Revoke(which) => revoke(&queue, &which).await,
    };
    queue.close().await;
    result
}

async fn add(
    queue: &Queue,
    wanted: settings::NewLink,
    loaded: &Loaded,
) -> anyhow::Result<ExitCode> {
    let end = |lifetime| queue.now().checked_add(lifetime);
    let end = wanted
        .expires
        .map(|lifetime| end(lifetime).context("--expires is too long"));
    let secret = Token::api_key();
    let link = NewLink {
        hash: secret.hash(),
        name: wanted.name,
        limits: GrantLimits {
            max_size: wanted.max_size,
            ..GrantLimits::default()
        },
        max_files: wanted.max_files,
        expires_at: end.transpose()?,
    };
    let link = queue.add_link(link).await?;
    let named = wanted.url.or_else(|| public_page(&loaded.settings));
    let is_port_assumed = named.is_none() && !loaded.is_given("port");
    let page = named.unwrap_or_else(|| local_page(&loaded.settings));
    // Only the URL goes to standard output, so that it can be piped.
    let (name, limits) = (sanitize(&link.name, 200), describe_limits(&link));
    eprintln!(
        "Link {} {name:?}: {limits}. It is shown only once:",
        link.id
    );
    print(&format!("{page}#token={}\n", secret.reveal()))?;
    for hint in hints(&loaded.settings, &page, is_port_assumed) {
        eprintln!("{hint}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the URL of the upload page if the settings name its host. It is where the base path of the public URL begins.
fn public_page(settings: &Settings) -> Option<String> {
    let Some(public) = settings.urls.public_url() else {
        let domain = settings.tls.acme.domains.first()?;
        return Some(format!("https://{domain}/"));
    };
    let page = public.strip_suffix(settings.urls.base_path.as_str());
    let page = page.map(str::to_owned).unwrap_or_else(|| {
        let origin = public.splitn(4, '/').take(3).collect::<Vec<_>>();
        origin.join("/")
    });
    Some(format!("{page}/"))
}

/// Returns the URL of the upload page at the address that the server listens on.
fn local_page(settings: &Settings) -> String {
    let (host, port) = (&settings.listen.host, settings.listen.port);
    let authority = match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => format!("localhost:{port}"),
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    let is_tls = settings.tls.is_on();
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{authority}/")
}

/// Returns hints about settings that would make the link useless.
fn hints(settings: &Settings, page: &str, is_port_assumed: bool) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if is_port_assumed {
        hints.push("The default port 8080 was assumed: if the server has another, give it with --port, or the page with --url.");
    }
    let own = ["://localhost", "://127.", "://[::1]"];
    if own.iter().any(|own| page.contains(own)) {
        hints.push("Others cannot reach localhost: set --public-url, or give --url https://…/ of the page.");
    }
    if !settings.grants.enabled {
        hints.push("The server must run with --require-grant or --grants.");
    }
    if !settings.has_page() {
        hints.push("The server must have its upload page (--show-greeting, and another --base-path than /).");
    }
    hints
}

async fn revoke(queue: &Queue, which: &str) -> anyhow::Result<ExitCode> {
    let number = which.parse().ok();
    let links = queue.links().await?;
    let named = |link: &&UploadLink| link.name == which || Some(link.id) == number;
    let found: Vec<_> = links.iter().filter(named).map(|link| link.id).collect();
    if found.len() > 1 {
        anyhow::bail!("several links have this name; give a number: {found:?}");
    }
    let mut count = 0;
    for id in found {
        count += u64::from(queue.revoke_link(id).await?);
    }
    revoked(count, "link", "link list")
}

async fn list(queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
    let links = queue.links().await?;
    let line = |link| format!("{}\n", link_json(link));
    print(&match links.as_slice() {
        links if json => links.iter().map(line).collect(),
        [] => "no links; create one with landfall link\n".to_owned(),
        links => table(links, queue.now()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// As the command and the dashboard list a link.
pub(crate) fn link_json(link: &UploadLink) -> serde_json::Value {
    serde_json::json!({
        "id": link.id,
        "name": link.name,
        "subject": link.subject,
        "max_size": link.limits.max_size,
        "files": link.files,
        "max_files": link.max_files,
        "created_at": format_time(link.created_at),
        "expires_at": link.expires_at.map(format_time),
        "used_at": link.used_at.map(format_time),
    })
}

fn table(links: &[UploadLink], now: SystemTime) -> String {
    let headings = ["ID", "NAME", "FILES", "MAX SIZE", "EXPIRES"];
    let mut rows = vec![headings.map(str::to_owned)];
    for link in links {
        let max_files = link.max_files.map(|max| format!(" of {max}"));
        let max_size = link.limits.max_size;
        rows.push([
            link.id.to_string(),
            sanitize(&link.name, 60),
            format!("{}{}", link.files, max_files.unwrap_or_default()),
            max_size.map_or_else(|| "-".to_owned(), size_text),
            format_expiry(link.expires_at, now),
        ]);
    }
    columns(&rows)
}

/// `up to 5 GiB per file, at most 50 files, until 2026-12-05`
fn describe_limits(link: &UploadLink) -> String {
    let max_size = link.limits.max_size;
    let max_size = max_size.map(|size| format!("up to {} per file", size_text(size)));
    let files = match link.max_files {
        None => "any number of files".to_owned(),
        Some(1) => "one file".to_owned(),
        Some(files) => format!("at most {files} files"),
    };
    let until = link
        .expires_at
        .map(|end| format!("until {}", format_time(end)));
    let parts = max_size.into_iter().chain([files]).chain(until);
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::state::tests::settings;

    #[test]
    fn the_page_is_where_the_public_url_begins() {
        for (args, page) in [
            (&[][..], None),
            (
                &["--public-url=https://x.example/files/"],
                Some("https://x.example/"),
            ),
            (
                &["--public-url=https://x.example/up/files"],
                Some("https://x.example/up/"),
            ),
            (
                &["--public-url=https://x.example/other/"],
                Some("https://x.example/"),
            ),
            (&["--public-url=relative"], None),
        ] {
            assert_eq!(public_page(&settings(args)).as_deref(), page, "{args:?}");
        }
    }

    #[test]
    fn the_page_has_the_host_and_the_port_of_the_server() {
        for (args, page) in [
            (&[][..], "http://localhost:8080/"),
            (&["--host=::", "--port=9"], "http://localhost:9/"),
            (&["--host=192.0.2.7"], "http://192.0.2.7:8080/"),
            (&["--host=[2001:db8::7]"], "http://[2001:db8::7]:8080/"),
            (&["--host=files.example"], "http://files.example:8080/"),
            (
                &["--tls-certificate=c", "--tls-key=k"],
                "https://localhost:8080/",
            ),
        ] {
            assert_eq!(local_page(&settings(args)), page, "{args:?}");
        }
    }
}
