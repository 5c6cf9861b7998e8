//! The shared files of AWS's tools, `~/.aws/config` and `~/.aws/credentials`, and the meaning of a profile in
//! them says about credentials.
//!
//! This reads files and decides; it calls no service and starts no program.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use super::{credentials::Credentials, environment::Environment};

const MAX_BYTES: u64 = 1024 * 1024;

pub(super) const DEFAULT: &str = "default";

type Section = HashMap<String, String>;

#[derive(Debug, Default)]
struct SharedFile {
    path: PathBuf,
    sections: HashMap<String, Section>,
}

impl SharedFile {
    /// Reads a file; one that does not exist is empty.
    fn read(path: PathBuf) -> Result<Self, String> {
        let mut text = String::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot read {}: {error}", path.display()))
            }
            _ => Ok(Self {
                path,
                sections: sections(&text),
            }),
        }
    }
}

/// Reads sections. A name may be quoted; comments follow `#` or `;` after white space.
fn sections(text: &str) -> HashMap<String, Section> {
    let mut sections: HashMap<String, Section> = HashMap::new();
    let mut current = None;
    // A setting without a value, such as `s3 =`, is followed by indented ones.
    let mut is_nested = false;
    for raw in text.lines() {
        let line = without_comment(raw.trim());
        if line.is_empty() {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let name = section.split(']').next().unwrap_or_default();
            let parts: Vec<_> = name.split_whitespace().collect();
            let name = parts.join(" ").replace(['"', '\''], "");
            sections.entry(name.clone()).or_default();
            (current, is_nested) = (Some(name), false);
            continue;
        }
        let is_inner = is_nested && raw.starts_with([' ', '\t']);
        let section = current.as_ref().and_then(|name| sections.get_mut(name));
        if let (Some(section), Some((name, value)), false) =
            (section, line.split_once('='), is_inner)
        {
            let value = value.trim();
            is_nested = value.is_empty();
            section.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    sections
}

fn without_comment(line: &str) -> &str {
    if line.starts_with(['#', ';']) {
        return "";
    }
    let ends = [" #", "\t#", " ;", "\t;"].map(|mark| line.find(mark));
    let end = ends.into_iter().flatten().min();
    end.map_or(line, |end| line[..end].trim_end())
}

/// The source of the credentials of a profile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProfileSource {
    /// The profile has them.
    Keys(Credentials),
    /// A program prints them.
    Process(String),
    /// A login by IAM Identity Center.
    Sso(Sso),
    /// A role, for the token in a file.
    WebIdentity { role: Role, token_file: String },
    /// A role, for the credentials of another source.
    Role { role: Role, source: Box<Self> },
    /// The variables of the environment (`credential_source`).
    Environment,
    /// The container's endpoint (`credential_source`).
    Container,
    /// The instance's metadata service (`credential_source`).
    Instance,
}

/// A role to assume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) seconds: Option<String>,
    pub(super) region: Option<String>,
}

/// A login, whose token is in `~/.aws/sso/cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sso {
    /// The session, or else the URL: the file of the token is named after it.
    pub(super) cache_key: String,
    pub(super) region: String,
    pub(super) account: String,
    pub(super) role: String,
    /// The command to run if the token has expired.
    pub(super) login: String,
}

/// The two files.
#[derive(Debug, Default)]
pub(super) struct SharedFiles {
    config: SharedFile,
    credentials: SharedFile,
}

impl fmt::Display for SharedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, credentials) = (self.config.path.display(), self.credentials.path.display());
        write!(f, "{config} and {credentials}")
    }
}

impl SharedFiles {
    pub(super) fn read(environment: Environment<'_>) -> Result<Self, String> {
        let path = |variable, name| {
            let path = environment(variable).map(|path| match path.strip_prefix("~/") {
                Some(rest) => home(environment).join(rest),
                None => PathBuf::from(path),
            });
            path.unwrap_or_else(|| home(environment).join(".aws").join(name))
        };
        Ok(Self {
            config: SharedFile::read(path("AWS_CONFIG_FILE", "config"))?,
            credentials: SharedFile::read(path("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?,
        })
    }

    pub(super) fn has(&self, profile: &str) -> bool {
        self.profile(profile).is_some()
    }

    /// Returns the settings of a profile; those in the file for credentials come first.
    fn profile(&self, name: &str) -> Option<Section> {
        let prefixed = self.config.sections.get(&format!("profile {name}"));
        let bare = self.config.sections.get(name).filter(|_| name == DEFAULT);
        let keys = self.credentials.sections.get(name);
        prefixed.or(bare).or(keys)?;
        let mut merged = prefixed.or(bare).cloned().unwrap_or_default();
        merged.extend(keys.cloned().unwrap_or_default());
        merged.retain(|_, value| !value.is_empty());
        Some(merged)
    }

    pub(super) fn region(&self, profile: &str) -> Option<String> {
        self.profile(profile)?.remove("region")
    }

    /// Returns where the credentials of a profile come from; `None`: it says nothing about them.
    ///
    /// # Errors
    /// A sentence that names the profile, the file and what to change.
    pub(super) fn source(&self, profile: &str) -> Result<Option<ProfileSource>, String> {
        self.resolve(profile, &mut Vec::new())
    }

    /// Returns the error for a profile that does not exist.
    pub(super) fn missing(&self, profile: &str) -> String {
        if self.config.sections.contains_key(profile) {
            let path = self.config.path.display();
            return format!("the section [{profile}] in {path} must be named [profile {profile}]");
        }
        let mut known: Vec<_> = self
            .credentials
            .sections
            .keys()
            .map(String::as_str)
            .collect();
        known.extend(self.config.sections.keys().filter_map(|name| {
            let bare = (name == DEFAULT).then_some(DEFAULT);
            name.strip_prefix("profile ").or(bare)
        }));
        known.sort_unstable();
        known.dedup();
        let known = match known.is_empty() {
            true => "there is none".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        format!("the profile {profile:?} is not in {self}: {known}")
    }

    fn resolve(
        &self,
        profile: &str,
        seen: &mut Vec<String>,
    ) -> Result<Option<ProfileSource>, String> {
        let settings = self.profile(profile).ok_or_else(|| self.missing(profile))?;
        let get = |name: &str| settings.get(name).cloned();
        let wrong = |what: &str| Err(format!("the profile {profile:?} in {self} {what}"));
        let is_repeated = seen.iter().any(|before| before == profile);
        if let Some(arn) = get("role_arn").filter(|_| !is_repeated) {
            seen.push(profile.to_owned());
            let role = Role {
                arn,
                session_name: get("role_session_name"),
                external_id: get("external_id"),
                seconds: get("duration_seconds"),
                region: get("region"),
            };
            if get("mfa_serial").is_some() {
                return wrong(
                    "asks for a code (mfa_serial), which a server cannot enter: use a role without it",
                );
            }
            if let Some(token_file) = get("web_identity_token_file") {
                return Ok(Some(ProfileSource::WebIdentity { role, token_file }));
            }
            let source = match (get("source_profile"), get("credential_source")) {
                (Some(name), None) => match self.resolve(&name, seen)? {
                    Some(source) => source,
                    None => {
                        return wrong(&format!(
                            "has the source_profile {name:?}, which has no credentials"
                        ));
                    }
                },
                (None, Some(source)) => match &*source {
                    "Environment" => ProfileSource::Environment,
                    "EcsContainer" => ProfileSource::Container,
                    "Ec2InstanceMetadata" => ProfileSource::Instance,
                    _ => return wrong(&format!("has the unknown credential_source {source:?}")),
                },
                (Some(_), Some(_)) => {
                    return wrong("has both source_profile and credential_source");
                }
                (None, None) => {
                    return wrong(
                        "has a role_arn: add source_profile, credential_source or web_identity_token_file",
                    );
                }
            };
            let source = Box::new(source);
            return Ok(Some(ProfileSource::Role { role, source }));
        }
        if let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            let mut keys = Credentials::new(id, secret);
            keys.session_token = get("aws_session_token");
            return Ok(Some(ProfileSource::Keys(keys)));
        }
        if is_repeated {
            return wrong("is its own source_profile, directly or by others");
        }
        if get("sso_session")
            .or_else(|| get("sso_account_id"))
            .is_some()
        {
            return self.sso(profile, &settings).map(Some);
        }
        if let Some(command) = get("credential_process") {
            return Ok(Some(ProfileSource::Process(command)));
        }
        let half = ["aws_access_key_id", "aws_secret_access_key"];
        if let Some(name) = half.into_iter().find(|name| settings.contains_key(*name)) {
            return wrong(&format!(
                "has {name} alone: the id and the secret belong together"
            ));
        }
        Ok(None)
    }

    fn sso(&self, profile: &str, settings: &Section) -> Result<ProfileSource, String> {
        let session = settings.get("sso_session");
        let shared = match session {
            Some(name) => {
                let section = self.config.sections.get(&format!("sso-session {name}"));
                section.ok_or_else(|| {
                    let path = self.config.path.display();
                    format!("the profile {profile:?} names the session {name:?}, and {path} has no [sso-session {name}]")
                })?
            }
            None => settings,
        };
        let need = |from: &Section, name: &str| {
            let value = from.get(name).filter(|value| !value.is_empty());
            value.cloned().ok_or_else(|| {
                let path = self.config.path.display();
                format!("the profile {profile:?} in {path} has no {name}: run aws configure sso --profile {profile}")
            })
        };
        let url = need(shared, "sso_start_url")?;
        Ok(ProfileSource::Sso(Sso {
            region: need(shared, "sso_region")?,
            account: need(settings, "sso_account_id")?,
            role: need(settings, "sso_role_name")?,
            cache_key: session.cloned().unwrap_or(url),
            login: format!("aws sso login --profile {profile}"),
        }))
    }
}

/// Returns the home directory, as AWS's tools find it.
pub(super) fn home(environment: Environment<'_>) -> PathBuf {
    let set = environment("HOME").map(PathBuf::from);
    set.or_else(std::env::home_dir).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in AWS's documentation of the files.
    const CONFIG: &str = r#"
[default]
region = us-west-2   # a comment
s3 =
    max_concurrent_requests = 20
    region = none
output = json

[profile user1]
sso_session = my-sso
sso_account_id = 123456789011
sso_role_name = readOnly

[sso-session my-sso]
sso_region = us-east-1
sso_start_url = https://my-sso-portal.awsapps.com/start
sso_registration_scopes = sso:account:access

[profile legacy]
sso_start_url = https://legacy.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 1
sso_role_name = writer

[profile marketingadmin]
role_arn = arn:aws:iam::123456789012:role/marketingadminrole
source_profile = user2
role_session_name = session_maria_garcia
external_id = 123456
region = eu-central-1

[profile "quoted name"]
credential_process = "/opt/my tools/keys" --user "a b"

[profile on-ec2]
role_arn = arn:aws:iam::123456789012:role/rolename
credential_source = Ec2InstanceMetadata

[profile web]
role_arn = arn:aws:iam::123456789012:role/web
web_identity_token_file = /run/token

[profile self]
role_arn = arn:aws:iam::123456789012:role/self
source_profile = self

[profile ring-a]
role_arn = arn:aws:iam::1:role/a
source_profile = ring-b
[profile ring-b]
role_arn = arn:aws:iam::1:role/b
source_profile = ring-a

[profile mfa]
role_arn = arn:aws:iam::1:role/a
source_profile = user2
mfa_serial = arn:aws:iam::1:mfa/a

[profile no-source]
role_arn = arn:aws:iam::1:role/a

[profile lost-session]
sso_session = other
sso_account_id = 1
sso_role_name = r

[profile only-region]
region = eu-north-1

[bare]
region = eu-south-1
"#;

    const CREDENTIALS: &str = "
[user2]
aws_access_key_id=AKID2
aws_secret_access_key = s/e+c#r=t
[self]
aws_access_key_id = AKIDSELF
aws_secret_access_key = self
aws_session_token = token
[half]
aws_access_key_id = AKID
";

    fn files() -> SharedFiles {
        let file = |path: &str, text| SharedFile {
            path: path.into(),
            sections: sections(text),
        };
        SharedFiles {
            config: file("/c/config", CONFIG),
            credentials: file("/c/credentials", CREDENTIALS),
        }
    }

    fn keys(id: &str, secret: &str) -> ProfileSource {
        ProfileSource::Keys(Credentials::new(id, secret))
    }

    #[test]
    fn sources_of_profiles() {
        let found = |profile| files().source(profile).expect("valid");
        assert_eq!(found("user2"), Some(keys("AKID2", "s/e+c#r=t")));
        assert_eq!(found("only-region"), None);
        assert_eq!(found(DEFAULT), None);
        assert_eq!(
            found("quoted name"),
            Some(ProfileSource::Process(
                r#""/opt/my tools/keys" --user "a b""#.to_owned()
            ))
        );
        let role = Role {
            arn: "arn:aws:iam::123456789012:role/marketingadminrole".to_owned(),
            session_name: Some("session_maria_garcia".to_owned()),
            external_id: Some("123456".to_owned()),
            seconds: None,
            region: Some("eu-central-1".to_owned()),
        };
        let source = Box::new(keys("AKID2", "s/e+c#r=t"));
        assert_eq!(
            found("marketingadmin"),
            Some(ProfileSource::Role { role, source })
        );
        for (profile, expected) in [
            ("on-ec2", ProfileSource::Instance),
            (
                "self",
                ProfileSource::Keys(Credentials {
                    session_token: Some("token".to_owned()),
                    ..Credentials::new("AKIDSELF", "self")
                }),
            ),
        ] {
            let Some(ProfileSource::Role { source, .. }) = found(profile) else {
                panic!("{profile} is a role");
            };
            assert_eq!(*source, expected, "{profile}");
        }
        let Some(ProfileSource::WebIdentity { role, token_file }) = found("web") else {
            panic!("a role by web identity");
        };
        assert!(role.arn.ends_with("role/web") && token_file == "/run/token");
    }

    #[test]
    fn logins_of_sessions_and_without() {
        for (profile, cache_key, region, role) in [
            ("user1", "my-sso", "us-east-1", "readOnly"),
            (
                "legacy",
                "https://legacy.awsapps.com/start",
                "eu-west-1",
                "writer",
            ),
        ] {
            let Ok(Some(ProfileSource::Sso(sso))) = files().source(profile) else {
                panic!("{profile} is a login");
            };
            assert_eq!(
                (&*sso.cache_key, &*sso.region, &*sso.role),
                (cache_key, region, role)
            );
            assert_eq!(sso.login, format!("aws sso login --profile {profile}"));
        }
    }

    #[test]
    fn mistakes_name_profile_file_and_remedy() {
        for (profile, parts) in [
            (
                "usr1",
                &["\"usr1\"", "/c/config", "/c/credentials", "user1, user2"][..],
            ),
            ("bare", &["[bare]", "/c/config", "[profile bare]"]),
            (
                "half",
                &["\"half\"", "/c/credentials", "aws_access_key_id alone"],
            ),
            ("mfa", &["\"mfa\"", "/c/config", "mfa_serial"]),
            ("no-source", &["\"no-source\"", "source_profile"]),
            (
                "lost-session",
                &["\"lost-session\"", "/c/config", "[sso-session other]"],
            ),
            ("ring-a", &["source_profile", "own"]),
        ] {
            let error = files().source(profile).expect_err("a mistake");
            for part in parts {
                assert!(error.contains(part), "{profile}: {error}");
            }
        }
    }

    #[test]
    fn regions_of_profiles() {
        for (profile, region) in [
            (DEFAULT, Some("us-west-2")),
            ("marketingadmin", Some("eu-central-1")),
            ("user1", None),
            ("nobody", None),
        ] {
            assert_eq!(files().region(profile).as_deref(), region, "{profile}");
        }
    }

    #[test]
    fn files_that_do_not_exist_are_empty_and_others_must_be_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("text").to_owned();
        let environment = |name: &str| (name == "HOME").then(|| home.clone());
        let files = SharedFiles::read(&environment).expect("none");
        assert_eq!(files.profile(DEFAULT), None);
        std::fs::create_dir_all(folder.path().join(".aws/config")).expect("a folder");
        let error = SharedFiles::read(&environment).expect_err("a directory");
        assert!(error.contains(".aws/config: "), "{error}");
    }
}
