//! The log on standard output, in tusd's text and JSON formats.
//!
//! Text: `2026/11/20 08:46:14.161706 level=INFO event=UploadFinished id=… size=…`. JSON: one object per
//! line with `time`, `level`, `msg` and the fields. Start-up lines, which tools parse, are plain
//! sentences after the time in text, and `msg` in JSON.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    sync::OnceLock,
    time::SystemTime,
};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{Event, Level, Subscriber, field::Visit, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use landfall::REQUEST_LOG;

use crate::settings::{LogFormat, LogLevel, Settings};

static FORMAT: OnceLock<LogFormat> = OnceLock::new();
static RELOAD: OnceLock<Box<dyn Fn(Targets) + Send + Sync>> = OnceLock::new();

/// Initializes logging, once.
pub fn init(settings: &Settings) {
    let _ = FORMAT.set(settings.log.format);
    let formatter = LogFormatter {
        json: settings.log.format == LogFormat::Json,
        as_tusd: settings.protocol.compat_tusd,
    };
    let (filter, handle) = reload::Layer::new(filter(settings));
    let _ = RELOAD.set(Box::new(move |filter| {
        // Fails only when the process ends.
        let _ = handle.reload(filter);
    }));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Output)
        .event_format(formatter)
        // Of this layer alone: the level of the log does not matter to spans.
        .with_filter(filter);
    let log = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "full")]
    if let Some(spans) = crate::trace::layer() {
        let _ = log.with(spans).try_init();
        return;
    }
    let _ = log.try_init();
}

/// Changes the level of a running log.
pub(crate) fn reload(settings: &Settings) {
    if let Some(reload) = RELOAD.get() {
        reload(filter(settings));
    }
}

/// With `--s3-log-api-calls`, every S3 call is logged at any level. tusd logs requests without `--verbose`, too.
fn filter(settings: &Settings) -> Targets {
    let level = settings.log.level;
    let calls = settings.s3.log_api_calls;
    let of_others = ["hyper", "h2", "opentelemetry", "sqlx"].map(|name| (name, LevelFilter::WARN));
    let filter = Targets::new()
        .with_default(match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        })
        .with_targets(of_others)
        .with_targets(calls.then_some(("landfall_objects::call", Level::DEBUG)));
    if settings.protocol.compat_tusd && level >= LogLevel::Info {
        filter.with_target(REQUEST_LOG, Level::DEBUG)
    } else if level == LogLevel::Info && !settings.monitoring.show_startup_logs {
        // Programs that want a silent server have set only that.
        filter.with_target(REQUEST_LOG, Level::WARN)
    } else {
        filter
    }
}

/// Prints a start-up or shutdown line at any log level.
pub fn say(text: impl fmt::Display) {
    let now = LogTime(SystemTime::now());
    let line = match FORMAT.get() {
        Some(LogFormat::Json) => {
            let text = serde_json::Value::String(text.to_string());
            format!("{{\"time\":\"{now:#}\",\"level\":\"INFO\",\"msg\":{text}}}\n")
        }
        _ => format!("{now} {text}\n"),
    };
    let _ = Output::print(line.as_bytes());
}

/// Standard output. Uploads do not wait for a pipe without a reader or a stopped terminal: after
/// [`Output::TIMEOUT`], lines are dropped and counted until it is read again.
struct Output;

static DROPPED: Mutex<u64> = Mutex::new(0);

impl Output {
    const TIMEOUT: Timespec = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };

    /// A pipe that can be written has room for a line of 4 KiB.
    fn is_ready(timeout: &Timespec) -> bool {
        let out = io::stdout();
        let mut fds = [PollFd::new(&out, PollFlags::OUT)];
        // An error is that of the write.
        poll(&mut fds, Some(timeout)).map_or(true, |ready| ready > 0)
    }

    fn print(line: &[u8]) -> io::Result<()> {
        let mut dropped = DROPPED.lock();
        let timeout = if *dropped == 0 {
            Self::TIMEOUT
        } else {
            Timespec::default()
        };
        if !Self::is_ready(&timeout) {
            *dropped += 1;
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if *dropped > 0 {
            let now = LogTime(SystemTime::now());
            let lines = std::mem::take(&mut *dropped);
            let text = "standard output was not read for a second; lines were dropped";
            match FORMAT.get() {
                Some(LogFormat::Json) => writeln!(
                    out,
                    "{{\"time\":\"{now:#}\",\"level\":\"WARN\",\"msg\":\"{text}\",\"lines\":{lines}}}"
                )?,
                _ => writeln!(
                    out,
                    "{now} level=WARN event={} lines={lines}",
                    LogfmtValue(text)
                )?,
            }
        }
        out.write_all(line)?;
        out.flush()
    }
}

impl Write for Output {
    /// `line` is whole. Errors are dropped: `tracing` prints them to standard error, and panics if that is a closed pipe.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = Self::print(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct LogFormatter {
    json: bool,
    /// Requests have tusd's level.
    as_tusd: bool,
}

impl<S, N> FormatEvent<S, N> for LogFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = LogTime(SystemTime::now());
        let metadata = event.metadata();
        let mut fields = Fields {
            json: self.json,
            as_tusd: self.as_tusd,
            message: String::new(),
            rest: String::new(),
        };
        event.record(&mut fields);
        #[cfg(feature = "full")]
        crate::trace::with_ids(|name, id| fields.push(name, id, true));
        let Fields { message, rest, .. } = fields;
        let level = match metadata.target() {
            REQUEST_LOG if self.as_tusd && message == "BodyReadError" => &Level::ERROR,
            REQUEST_LOG if self.as_tusd => &Level::INFO,
            _ => metadata.level(),
        };
        if !self.json {
            let message = LogfmtValue(&message);
            return writeln!(writer, "{now} level={level} event={message}{rest}");
        }
        let message = serde_json::Value::String(message);
        write!(writer, "{{\"time\":\"{now:#}\",\"level\":\"{level}\",")?;
        writeln!(writer, "\"msg\":{message}{rest}}}")
    }
}

struct Fields {
    json: bool,
    as_tusd: bool,
    message: String,
    rest: String,
}

impl Fields {
    fn push(&mut self, name: &str, value: &str, is_text: bool) {
        if name == "message" {
            self.message = value.to_owned();
            return;
        }
        // The event's name comes first.
        let name = match name {
            "error" if self.as_tusd && self.message == "InternalServerError" => "message",
            name => name,
        };
        let _ = match (self.json, is_text) {
            (true, true) => {
                let value = serde_json::Value::from(value);
                write!(self.rest, ",\"{name}\":{value}")
            }
            (true, false) => write!(self.rest, ",\"{name}\":{value}"),
            (false, _) => write!(self.rest, " {name}={}", LogfmtValue(value)),
        };
    }
}

macro_rules! record_unquoted {
    ($($record:ident: $kind:ty),+) => {
        $(fn $record(&mut self, field: &tracing::field::Field, value: $kind) {
            self.push(field.name(), &value.to_string(), false);
        })+
    };
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.push(field.name(), &format!("{value:?}"), true);
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.push(field.name(), value, true);
    }

    record_unquoted! { record_u64: u64, record_i64: i64, record_f64: f64, record_bool: bool }
}

struct LogfmtValue<'a>(&'a str);

impl fmt::Display for LogfmtValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = !self.0.is_empty()
            && self.0.chars().all(|c| match c.is_ascii() {
                true => c.is_ascii_graphic() && c != '"' && c != '=',
                // Quote C1 controls, which terminals interpret, and changes of text direction.
                false => c.escape_debug().len() == 1,
            });
        match is_plain {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

struct LogTime(SystemTime);

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rfc3339 = humantime::format_rfc3339_micros(self.0);
        if f.alternate() {
            return write!(f, "{rfc3339}");
        }
        let text = rfc3339.to_string().replace('-', "/").replace('T', " ");
        f.write_str(text.trim_end_matches('Z'))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_formatted() {
        let at =
            |seconds: u64| LogTime(UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 7));
        assert_eq!(at(0).to_string(), "1970/01/01 00:00:00.000007");
        assert_eq!(at(951_782_400).to_string(), "2000/02/29 00:00:00.000007");
        assert_eq!(
            format!("{:#}", at(1_795_163_999)),
            "2026-11-20T08:39:59.000007Z"
        );
    }

    #[test]
    fn values_are_quoted_where_needed() {
        assert_eq!(LogfmtValue("").to_string(), "\"\"");
        assert_eq!(LogfmtValue("a/b-1").to_string(), "a/b-1");
        assert_eq!(LogfmtValue("a b\n").to_string(), "\"a b\\n\"");
        assert_eq!(LogfmtValue("Grüße/日本").to_string(), "Grüße/日本");
        // Control Sequence Introducer, and right-to-left override.
        assert_eq!(LogfmtValue("a\u{9b}31m").to_string(), "\"a\\u{9b}31m\"");
        assert_eq!(LogfmtValue("\u{202e}gpj").to_string(), "\"\\u{202e}gpj\"");
        for c in ('\0'..' ').chain('\u{7f}'..'\u{a0}') {
            let quoted = LogfmtValue(&format!("a{c}b")).to_string();
            assert!(!quoted.contains(c), "{quoted:?}");
        }
    }
}
