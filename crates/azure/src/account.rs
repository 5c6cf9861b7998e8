//! Which account is used, where it is and what authorizes requests, from the variables of the environment.
//! Nothing is sent.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use landfall_objects::CredentialCache;
use reqsign_azure_storage::Credential;

use crate::{
    error::SettingsError, identity::Identity, settings::Authorization, variables::Variables,
};

/// The account of emulators, and its public key.
const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const DEVELOPMENT_ENDPOINT: &str = "http://127.0.0.1:10000/devstoreaccount1";

/// An account and the source of its credentials.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// From a connection string.
    pub(crate) endpoint: Option<String>,
    pub(crate) source: Source,
}

/// The authorization of requests.
#[derive(Clone)]
pub(crate) enum Source {
    /// A key in base64.
    Key(String),
    /// A shared access signature, without a question mark.
    Signature(String),
    /// An identity of Microsoft Entra ID.
    Identity,
}

impl Source {
    pub(crate) fn authorization(&self) -> Authorization {
        match self {
            Self::Key(_) => Authorization::AccountKey,
            Self::Signature(_) => Authorization::SharedAccessSignature,
            Self::Identity => Authorization::Identity,
        }
    }

    /// Returns the credentials of requests; those of an `identity` are renewed before they expire.
    pub(crate) fn credentials(
        &self,
        account: &str,
        identity: Identity,
    ) -> CredentialCache<Identity> {
        CredentialCache::fixed(Some(match self {
            Self::Key(key) => Credential::with_shared_key(account, key),
            Self::Signature(token) => Credential::with_sas_token(token),
            Self::Identity => return CredentialCache::new(identity),
        }))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.authorization(), f)
    }
}

impl Account {
    /// The connection string comes first, then a signature, then a key, then an identity.
    pub(crate) fn from_variables(variables: &Variables) -> Result<Self, SettingsError> {
        if let Some(text) = variables.get_or_read("AZURE_STORAGE_CONNECTION_STRING")? {
            return Self::from_connection_string(&text);
        }
        let account = variables.get_or_read("AZURE_STORAGE_ACCOUNT")?;
        let account = account.ok_or(SettingsError::NoAccount)?;
        let source = if let Some(text) = variables.get_or_read("AZURE_STORAGE_SAS_TOKEN")? {
            signature(&text)?
        } else {
            match variables.get_or_read("AZURE_STORAGE_KEY")? {
                Some(text) if text.contains("sig=") => signature(&text)?,
                Some(text) => key(text).ok_or(SettingsError::Key)?,
                None => Source::Identity,
            }
        };
        Self::new(account, None, source)
    }

    fn new(name: String, endpoint: Option<String>, source: Source) -> Result<Self, SettingsError> {
        let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !(3..=24).contains(&name.len()) || !name.bytes().all(is_valid) {
            return Err(SettingsError::Account(name));
        }
        Ok(Self {
            name,
            endpoint,
            source,
        })
    }

    fn from_connection_string(text: &str) -> Result<Self, SettingsError> {
        let wrong = SettingsError::ConnectionString;
        let mut fields = Vec::new();
        for field in text
            .split(';')
            .map(str::trim)
            .filter(|field| !field.is_empty())
        {
            fields.push(
                field
                    .split_once('=')
                    .ok_or(wrong("has a field without a value"))?,
            );
        }
        let get = |name: &str| {
            let field = fields
                .iter()
                .find(|(one, _)| one.trim().eq_ignore_ascii_case(name));
            let value = field.map(|(_, value)| value.trim());
            value.filter(|value| !value.is_empty())
        };
        if get("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let key = Source::Key(DEVELOPMENT_KEY.to_owned());
            let endpoint = Some(DEVELOPMENT_ENDPOINT.to_owned());
            return Self::new(DEVELOPMENT_ACCOUNT.to_owned(), endpoint, key);
        }
        let endpoint = get("BlobEndpoint").map(|url| url.trim_end_matches('/').to_owned());
        let name = match (get("AccountName"), &endpoint) {
            (Some(name), _) => name.to_owned(),
            (None, Some(url)) => account_in(url).ok_or(wrong("names no account"))?,
            (None, None) => return Err(wrong("names no account")),
        };
        let source = match (get("AccountKey"), get("SharedAccessSignature")) {
            (_, Some(token)) => signature(token)?,
            (Some(text), None) => {
                key(text.to_owned()).ok_or(wrong("has an AccountKey that is not base64"))?
            }
            (None, None) => return Err(wrong("has neither AccountKey nor SharedAccessSignature")),
        };
        let endpoint = endpoint.unwrap_or_else(|| {
            let scheme = get("DefaultEndpointsProtocol").unwrap_or("https");
            let suffix = get("EndpointSuffix").unwrap_or("core.windows.net");
            format!("{scheme}://{name}.blob.{suffix}")
        });
        Self::new(name, Some(endpoint), source)
    }
}

fn key(text: String) -> Option<Source> {
    let is_key = STANDARD.decode(&text).is_ok_and(|key| !key.is_empty());
    is_key.then_some(Source::Key(text))
}

fn signature(text: &str) -> Result<Source, SettingsError> {
    let token = text.trim().trim_start_matches(['?', '&']);
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    let has_signature = token.split('&').any(|pair| pair.starts_with("sig="));
    match has_signature && token.bytes().all(fits) {
        true => Ok(Source::Signature(token.to_owned())),
        false => Err(SettingsError::Signature),
    }
}

/// `https://ACCOUNT.blob…` or `http://HOST:PORT/ACCOUNT`.
fn account_in(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = match path.is_empty() {
        true => host.split_once('.')?.0,
        false => path,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account<const N: usize>(variables: [(&str, &str); N]) -> Result<Account, SettingsError> {
        Account::from_variables(&Variables::from(variables))
    }

    fn fields(account: &Account) -> (&str, Option<&str>, String) {
        let secret = match &account.source {
            Source::Key(key) => format!("key {key}"),
            Source::Signature(token) => format!("sas {token}"),
            Source::Identity => "identity".to_owned(),
        };
        (&account.name, account.endpoint.as_deref(), secret)
    }

    const NAME: (&str, &str) = ("AZURE_STORAGE_ACCOUNT", "acme");

    #[test]
    fn credentials_in_their_order() {
        let sas = ("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=a%2Bb");
        let key = ("AZURE_STORAGE_KEY", "a2V5");
        let string = (
            "AZURE_STORAGE_CONNECTION_STRING",
            "DefaultEndpointsProtocol=https;AccountName=other;AccountKey=a2V5MQ==;EndpointSuffix=core.chinacloudapi.cn",
        );
        let one = account([NAME, key, sas, string]).unwrap();
        let endpoint = Some("https://other.blob.core.chinacloudapi.cn");
        assert_eq!(fields(&one), ("other", endpoint, "key a2V5MQ==".into()));
        let one = account([NAME, key, sas]).unwrap();
        assert_eq!(fields(&one), ("acme", None, "sas sv=1&sig=a%2Bb".into()));
        let one = account([NAME, key]).unwrap();
        assert_eq!(fields(&one), ("acme", None, "key a2V5".into()));
        let one = account([NAME]).unwrap();
        assert_eq!(fields(&one), ("acme", None, "identity".into()));
        let one = account([NAME, ("AZURE_STORAGE_KEY", "sv=1&sig=x%3D")]).unwrap();
        assert_eq!(fields(&one), ("acme", None, "sas sv=1&sig=x%3D".into()));
    }

    #[test]
    fn connection_strings() {
        let of = |text| account([("AZURE_STORAGE_CONNECTION_STRING", text)]);
        let one = of("UseDevelopmentStorage=true").unwrap();
        assert_eq!(
            (one.name.as_str(), one.endpoint.as_deref()),
            (DEVELOPMENT_ACCOUNT, Some(DEVELOPMENT_ENDPOINT))
        );
        let one =
            of("BlobEndpoint=https://acme.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x")
                .unwrap();
        let endpoint = Some("https://acme.blob.core.windows.net");
        assert_eq!(fields(&one), ("acme", endpoint, "sas sv=1&sig=x".into()));
        let one =
            of("BlobEndpoint=http://azurite:10000/devstoreaccount1;AccountKey=a2V5;").unwrap();
        let endpoint = Some("http://azurite:10000/devstoreaccount1");
        assert_eq!(
            fields(&one),
            ("devstoreaccount1", endpoint, "key a2V5".into())
        );
        let one = of("AccountName=acme;AccountKey=a2V5").unwrap();
        assert_eq!(
            one.endpoint.as_deref(),
            Some("https://acme.blob.core.windows.net")
        );
        for (text, problem) in [
            ("nonsense", "without a value"),
            ("AccountKey=a2V5", "names no account"),
            ("AccountName=acme", "neither AccountKey nor"),
            ("AccountName=acme;AccountKey=secret!", "not base64"),
            ("AccountName=acme;SharedAccessSignature=secret", "signature"),
        ] {
            let error = of(text).expect_err(text).to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn wrong_settings_say_what_to_do() {
        let sentence = "No service account name for Azure BlockBlob Storage using the \
                        AZURE_STORAGE_ACCOUNT environment variable.";
        assert_eq!(account([]).expect_err("none").to_string(), sentence);
        let key = |text| {
            account([NAME, ("AZURE_STORAGE_KEY", text)])
                .expect_err(text)
                .to_string()
        };
        assert!(key("secret!").contains("base64"));
        assert!(key("sig=a b").contains("copy it whole"));
        let name = account([("AZURE_STORAGE_ACCOUNT", "Acme.blob")]).expect_err("invalid");
        assert!(name.to_string().contains("\"Acme.blob\""), "{name}");
        assert!(!format!("{:?}", account([NAME, ("AZURE_STORAGE_KEY", "a2V5")])).contains("a2V5"));
    }

    #[test]
    fn secrets_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "a2V5\n").unwrap();
        let path = path.to_str().unwrap();
        let one = account([NAME, ("AZURE_STORAGE_KEY_FILE", path)]).unwrap();
        assert_eq!(fields(&one), ("acme", None, "key a2V5".into()));
        let error = account([NAME, ("AZURE_STORAGE_KEY_FILE", "/nonexistent")]);
        assert!(
            error
                .expect_err("no file")
                .to_string()
                .contains("/nonexistent")
        );
    }
}
