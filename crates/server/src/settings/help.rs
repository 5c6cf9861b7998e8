//! The text of `landfall -h`.

use super::arguments::Verb;
use super::instructions::INSTRUCTIONS;
use super::sections::SECTIONS;
use super::table::{Kind, Setting};

/// Columns of the text.
const WIDTH: usize = 80;

/// Columns left of what a flag does.
const INDENT: usize = 10;

/// What comes before the flags.
const SERVE: &str = "\
Landfall takes uploads that always arrive: it speaks tus 1.0.0, so that an
upload that was cut off goes on where it stopped.

Usage:
  landfall [flags]                Serve uploads (same as landfall serve).
  landfall sweep [flags]          Delete uploads that have outlived their time.
  landfall doctor files [flags]   List damaged uploads in a directory.
  landfall doctor s3 [flags]      Examine a bucket and the uploads in it.
  landfall s3 set-cors [flags]    Let web pages talk to a bucket.
  landfall events list [flags]    List events that couldn't be delivered.
  landfall keys add NAME [flags]  Make a key for a caller that asks for uploads.
  landfall migrate [flags]        Bring the database's tables up to date.
  landfall config check [flags]   Print the settings in force, with sources.
  landfall version                Print the version.
  landfall help sweep             Help for one command.

Examples:
  landfall                        Serve ./data at http://localhost:8080/files/
  landfall --port 8070 --upload-dir /srv/uploads --max-size 20GiB
  landfall --behind-proxy --base-path /api/uploads/
  landfall --s3-bucket uploads --s3-region eu-central-1
  landfall -config /etc/landfall.toml
  LANDFALL_PORT=8070 landfall     Each flag can be given as a variable as well.
";

/// What comes before the flags of `landfall sweep`.
const SWEEP: &str = "\
Deletes the uploads that have outlived their time, once, and ends. A server may
run beside it.

Usage:
  landfall sweep [flags]

Examples:
  landfall sweep --dry-run                        List what would go, and why.
  landfall sweep --expire-unfinished 12h --upload-dir /srv/uploads
";

/// What comes before the flags of `landfall doctor files`.
const DOCTOR_FILES: &str = "\
Lists the damaged uploads in the upload directory, and files that are never
removed because nothing tells whose they are. Changes nothing. A server may run
beside it.

Usage:
  landfall doctor files [flags]

Examples:
  landfall doctor files --upload-dir /srv/uploads
  landfall doctor files -config /etc/landfall.toml
";

/// What comes before the flags of `landfall doctor s3`.
const DOCTOR: &str = "\
Examines the bucket that uploads are to be kept in: whether it can be reached,
whether the credentials may do what Landfall does, and how the service differs
from others. Writes a few small objects below the prefix and removes them. Lists
damaged uploads. Ends with code 1 if something is missing that Landfall needs.

Usage:
  landfall doctor s3 [flags]

Examples:
  landfall doctor s3 --s3-bucket uploads --s3-endpoint http://localhost:3900
  landfall doctor s3 -config /etc/landfall.toml -origin https://example.com
";

/// What comes before the flags of `landfall s3 set-cors`.
const SET_CORS: &str = "\
Sets the bucket's CORS rule by which pages of these origins may send uploads
straight to it. It has the id landfall-direct; an earlier one is replaced, the
rules of others are kept. Shows the rules before and after.

Usage:
  landfall s3 set-cors -origin ORIGIN [-origin ORIGIN]... [--dry-run] [flags]

Examples:
  landfall s3 set-cors --s3-bucket uploads -origin https://example.com
  landfall s3 set-cors -config /etc/landfall.toml --dry-run
                       -origin https://example.com -origin http://localhost:3000
";

/// What comes before the flags of `landfall events`.
const EVENTS: &str = "\
Shows the events that couldn't be delivered for so long that they were put
aside, delivers them again, or forgets them. A server may run beside it. Give it
the server's settings, so that it finds the same database.

Usage:
  landfall events list [--all|-waiting] [-transport NAME] [-upload ID] [-json]
  landfall events retry ID... | --all [-transport NAME]
  landfall events delete ID... | --all [-transport NAME]

Examples:
  landfall events list -config /etc/landfall.toml
  landfall events retry --all --state-dir /var/lib/landfall
";

/// What comes before the flags of `landfall migrate`.
const MIGRATE: &str = "\
Brings the tables of the database to the version of this program, as the server
does when it starts. Other commands change no tables. Servers of the version
before may keep running, unless the release notes say that they have to be
stopped. Give it the server's settings, so that it finds the same database.

Usage:
  landfall migrate [flags]

Examples:
  landfall migrate -config /etc/landfall.toml
  landfall migrate --database postgres://landfall@db.example.com/landfall
";

/// What comes before the flags of `landfall keys`.
const KEYS: &str = "\
Makes, lists and revokes the API keys with which applications ask for uploads
(--grants). A key is shown once, when it is made: Landfall keeps its hash only. A
server may run beside it, and heeds what changed within seconds. Give it the
server's settings, so that it finds the same database.

Usage:
  landfall keys add NAME [-subject NAME] [-admin] [-expires TIME]
                    [--max-size SIZE] [-types TYPES] [-active COUNT]
                    [-rate COUNT/TIME] [-quota SIZE]
  landfall keys list [-json]
  landfall keys revoke ID|NAME

Examples:
  landfall keys add website -config /etc/landfall.toml
  landfall keys add alice --max-size 2GiB -rate 100/1h -expires 90d
";

/// How everything below is to be read.
const GRAMMAR: &str = "\
Flags may begin with one dash or two, and take their value after a space or an
= sign. Each can also be given as a variable (--max-size is LANDFALL_MAX_SIZE) or
in a TOML file (max-size = \"2GiB\"). Flags go before variables, and variables
before the file.
SIZE is in bytes, or has a unit: KiB, MiB, GiB, TiB, KB, MB, GB, TB.
TIME has a unit: 300ms, 10s, 1h30m, 7d.
";

/// The help for a command.
pub(super) fn help(verb: Verb) -> String {
    let verb = match verb {
        Verb::Sweep
        | Verb::DoctorFiles
        | Verb::DoctorS3
        | Verb::SetCors
        | Verb::Events
        | Verb::Keys
        | Verb::Migrate => verb,
        _ => Verb::Serve,
    };
    let mut text = String::from(match verb {
        Verb::Sweep => SWEEP,
        Verb::DoctorFiles => DOCTOR_FILES,
        Verb::DoctorS3 => DOCTOR,
        Verb::SetCors => SET_CORS,
        Verb::Events => EVENTS,
        Verb::Keys => KEYS,
        Verb::Migrate => MIGRATE,
        _ => SERVE,
    });
    text.push('\n');
    text.push_str(GRAMMAR);
    for section in SECTIONS
        .iter()
        .filter(|section| section.verbs.contains(&verb))
    {
        text.push_str(&format!("\n{}:\n", section.title));
        for setting in section.settings {
            flag(
                &mut text,
                &[setting.name],
                setting.kind.placeholder(),
                &explain(setting),
            );
        }
    }
    text.push_str("\nOther flags:\n");
    for instruction in INSTRUCTIONS {
        flag(
            &mut text,
            instruction.names,
            instruction.placeholder,
            instruction.help,
        );
    }
    text
}

/// What a setting does, its default and its earlier names.
fn explain(setting: &Setting) -> String {
    let mut text = setting.help.to_owned();
    // The spaces inside the brackets don't break.
    match (setting.kind, setting.default) {
        (Kind::Switch, "false") | (_, "") => {}
        (Kind::Switch, _) => {
            text.push_str(&format!(" [on\u{a0}unless\u{a0}--{}=false]", setting.name));
        }
        // A long list has to break somewhere.
        (Kind::List(_), default) if default.len() > WIDTH - INDENT - 12 => {
            text.push_str(&format!(" [default: {}]", default.replace(',', ", ")));
        }
        (_, default) => text.push_str(&format!(" [default:\u{a0}{default}]")),
    }
    for old in setting.old {
        text.push_str(&format!(" [formerly\u{a0}--{}]", old.name));
    }
    text
}

/// A flag's lines.
fn flag(text: &mut String, names: &[&str], placeholder: Option<&str>, what: &str) {
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    let head = match placeholder {
        Some(placeholder) => format!("  {} {placeholder}", names.join(", ")),
        None => format!("  {}", names.join(", ")),
    };
    text.push_str(&head);
    text.push('\n');
    let mut column = 0;
    for word in what.split(' ') {
        if column > 0 && column + 1 + word.chars().count() > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(&word.replace('\u{a0}', " "));
        column += word.chars().count();
    }
    text.push('\n');
}
