//! Refuses uploads by extension and size, and labels the others.
//!
//! `abi.rs` is the same for every plugin; this file is the decision.

mod abi;

use serde_json::{Value, json};

/// What nobody may upload, by the ends of names.
const REFUSED: [&str; 5] = ["bat", "cmd", "com", "exe", "scr"];

/// The most bytes of an upload: 1 GiB.
const MAX_SIZE: u64 = 1 << 30;

/// The answer to a message, as a hook of tusd 2 gives it; `None` if there is nothing to say.
fn answer(message: &Value) -> Option<Value> {
    if message["Type"] != "pre-create" {
        return None;
    }
    let upload = &message["Event"]["Upload"];
    let name = upload["MetaData"]["filename"].as_str().unwrap_or_default();
    let extension = match name.rsplit_once('.') {
        Some((_, extension)) => extension.to_ascii_lowercase(),
        None => String::new(),
    };
    if REFUSED.contains(&extension.as_str()) {
        abi::log(abi::INFO, &format!("refused {name:?}"));
        return Some(refusal(415, &format!("no .{extension} files, please\n")));
    }
    // Unknown as yet, if it is deferred: then `MaxSize` holds.
    if upload["Size"].as_u64() > Some(MAX_SIZE) {
        return Some(refusal(413, "at most 1 GiB, please\n"));
    }
    Some(json!({
        "ChangeFileInfo": { "MaxSize": MAX_SIZE, "Labels": { "kind": kind(&extension) } }
    }))
}

fn refusal(status: u16, text: &str) -> Value {
    json!({ "RejectUpload": true, "HTTPResponse": { "StatusCode": status, "Body": text } })
}

fn kind(extension: &str) -> &'static str {
    match extension {
        "gif" | "jpeg" | "jpg" | "png" | "webp" => "image",
        "mkv" | "mov" | "mp4" | "webm" => "video",
        _ => "other",
    }
}
