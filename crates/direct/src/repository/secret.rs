//! Random secrets that all nodes share, stored in the database.

use landfall_database::{DatabaseError, Statement};

use super::runtime::DatabaseRuntime;

pub(super) async fn get_or_create(
    runtime: &DatabaseRuntime,
    name: &str,
) -> Result<[u8; 32], DatabaseError> {
    if let Some(secret) = get(runtime, name).await? {
        return Ok(secret);
    }
    let digits = hex::encode(rand::random::<[u8; 32]>());
    // If several nodes start at once, the first one creates it.
    let create = Statement::new(
        "INSERT INTO direct_secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    );
    let create = create.with(name).with(digits);
    runtime.connections.execute(create).await?;
    let missing = || DatabaseError::InvalidRow(format!("the secret {name} is missing"));
    get(runtime, name).await?.ok_or_else(missing)
}

async fn get(runtime: &DatabaseRuntime, name: &str) -> Result<Option<[u8; 32]>, DatabaseError> {
    let select = Statement::new("SELECT secret FROM direct_secrets WHERE name = $1").with(name);
    let rows = runtime.connections.read(select).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let damaged = || {
        DatabaseError::InvalidRow(format!(
            "the secret {name} does not have 64 hexadecimal digits"
        ))
    };
    parse(&row.text("secret")?).map(Some).ok_or_else(damaged)
}

fn parse(digits: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    hex::decode_to_slice(digits, &mut secret).ok()?;
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_secrets_are_read() {
        let digits = format!("00ff{}", "1a".repeat(30));
        let secret = parse(&digits).unwrap();
        assert_eq!((secret[0], secret[1], secret[31]), (0, 0xff, 0x1a));
        for damaged in [
            "",
            "00",
            &digits[1..],
            &format!("{}g", &digits[1..]),
            &"ü".repeat(32),
        ] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}
