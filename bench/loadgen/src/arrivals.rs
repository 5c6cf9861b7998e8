//! What a receiver of hooks keeps, so that the driver can tell whether every event came, and in
//! order.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Instant;

/// One message as the receiver read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its name, such as `post-finish`.
    pub(crate) name: String,
    /// The upload; empty before that is created.
    pub(crate) upload: String,
    /// What makes it known again when it comes twice, if the server says it.
    pub(crate) id: Option<String>,
    /// Its place among the events of its upload, if the server says it.
    pub(crate) sequence: Option<u64>,
}

impl Message {
    /// Where it belongs among the events of its upload.
    fn place(&self) -> u64 {
        self.sequence.unwrap_or(match self.name.as_str() {
            "post-create" => 0,
            "post-finish" => 2,
            "post-terminate" => 3,
            _ => 1,
        })
    }
}

/// An event of an upload that came.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    place: u64,
}

/// All that came.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Questions, and events without those that came again, by name.
    first: BTreeMap<String, u64>,
    repeated: u64,
    disordered: u64,
    /// What came out of order first. Some servers promise none, so it is no fault by itself.
    disorder: Option<String>,
    /// What was wrong first.
    fault: Option<String>,
    uploads: HashMap<String, Vec<Event>>,
    latest: Option<Instant>,
}

impl Arrivals {
    /// Notes one that came.
    pub(crate) fn note(&mut self, message: Message) {
        let place = message.place();
        if !message.upload.is_empty() {
            let events = self.uploads.entry(message.upload.clone()).or_default();
            if let Some(same) = events.iter().find(|event| event.name == message.name) {
                self.repeated += 1;
                if same.id != message.id || same.place != place {
                    self.wrong(|| {
                        format!("{} of {} came as two events", message.name, message.upload)
                    });
                }
                return;
            }
            let later = events.iter().find(|event| event.place >= place);
            if let Some(later) = later {
                let text = format!(
                    "{} of {} came after its {}",
                    message.name, message.upload, later.name
                );
                self.disordered += 1;
                self.disorder.get_or_insert(text);
            }
            let events = self.uploads.entry(message.upload).or_default();
            events.push(Event {
                name: message.name.clone(),
                id: message.id,
                place,
            });
        }
        *self.first.entry(message.name).or_default() += 1;
        self.latest = Some(Instant::now());
    }

    /// Notes what no server should send; the first one is told.
    pub(crate) fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(what);
    }

    /// One line of JSON: how many came first by name, and how many came again or out of order; how
    /// long ago the latest came, in microseconds; what came out of order first, and what was wrong
    /// first, if anything.
    pub(crate) fn json(&self) -> String {
        let mut first = String::new();
        for (name, count) in &self.first {
            // Writing to a String can't fail.
            let _ = write!(first, "{}{}:{count}", comma(&first), quote(name));
        }
        let quiet = self.latest.map_or("null".into(), |latest| {
            latest.elapsed().as_micros().to_string()
        });
        let told = |text: &Option<String>| text.as_deref().map_or("null".into(), quote);
        format!(
            "{{\"first\":{{{first}}},\"repeated\":{},\"disordered\":{},\"quiet_us\":{quiet},\"disorder\":{},\"fault\":{}}}",
            self.repeated,
            self.disordered,
            told(&self.disorder),
            told(&self.fault)
        )
    }
}

fn comma(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "," }
}

/// A JSON string.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\0'..' ' => quoted.push(' '),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, upload: &str, id: &str, sequence: u64) -> Message {
        Message {
            name: name.into(),
            upload: upload.into(),
            id: Some(id.into()),
            sequence: Some(sequence),
        }
    }

    fn told(messages: &[Message]) -> String {
        let mut arrivals = Arrivals::default();
        messages
            .iter()
            .for_each(|message| arrivals.note(message.clone()));
        let (counts, quiet) = arrivals.json().split_once(",\"quiet_us\":").map_or_else(
            || panic!("no time in it"),
            |(counts, rest)| (counts.to_owned(), rest.to_owned()),
        );
        format!("{counts}{}", &quiet[quiet.find(',').unwrap()..])
    }

    #[test]
    fn counts_and_knows_again() {
        let create = message("post-create", "u", "a", 5);
        let finish = message("post-finish", "u", "b", 9);
        assert_eq!(
            told(&[create.clone(), finish.clone(), create, finish]),
            r#"{"first":{"post-create":1,"post-finish":1},"repeated":2,"disordered":0,"disorder":null,"fault":null}"#
        );
    }

    #[test]
    fn questions_without_an_upload_are_only_counted() {
        let asked = message("pre-create", "", "a", 1);
        assert_eq!(
            told(&[asked.clone(), asked]),
            r#"{"first":{"pre-create":2},"repeated":0,"disordered":0,"disorder":null,"fault":null}"#
        );
    }

    #[test]
    fn order_is_that_of_the_sequence_or_else_of_the_names() {
        let wrong = r#"{"first":{"post-create":1,"post-finish":1},"repeated":0,"disordered":1,"disorder":"post-create of u came after its post-finish","fault":null}"#;
        let (mut create, mut finish) = (
            message("post-create", "u", "a", 5),
            message("post-finish", "u", "b", 9),
        );
        assert_eq!(told(&[finish.clone(), create.clone()]), wrong);
        create.sequence = None;
        finish.sequence = None;
        assert_eq!(told(&[finish, create.clone()]), wrong);
        let other = message("post-finish", "v", "b", 9);
        assert!(told(&[other, create]).contains(r#""disordered":0,"disorder":null,"fault":null"#));
    }

    #[test]
    fn a_repetition_has_the_same_id_and_sequence() {
        let create = message("post-create", "u", "a", 5);
        for other in [
            message("post-create", "u", "b", 5),
            message("post-create", "u", "a", 6),
        ] {
            assert!(
                told(&[create.clone(), other]).contains("\"post-create of u came as two events\"")
            );
        }
    }
}
