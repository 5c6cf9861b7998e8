//! What Landfall calls, and what it offers. A plugin of your own can take this file as it is.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Levels of [`log`].
pub const ERROR: u32 = 0;
/// See [`ERROR`].
pub const INFO: u32 = 2;

/// Writes a line into the server's log.
pub fn log(level: u32, text: &str) {
    landfall_log(level, text.as_ptr(), text.len());
}

#[link(wasm_import_module = "landfall")]
unsafe extern "C" {
    #[link_name = "log"]
    safe fn landfall_log(level: u32, text: *const u8, length: usize);
}

// An instance is asked once, so there is one of each.
static MESSAGE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Makes room for a message.
#[unsafe(no_mangle)]
extern "C" fn landfall_alloc(length: usize) -> *mut u8 {
    std::panic::set_hook(Box::new(|panic| log(ERROR, &panic.to_string())));
    let mut message = lock(&MESSAGE);
    *message = vec![0; length];
    message.as_mut_ptr()
}

/// Answers the message that lies where [`landfall_alloc`] made room for it.
#[unsafe(no_mangle)]
extern "C" fn landfall_hook(_message: *const u8, _length: usize) -> u64 {
    let message: Value = serde_json::from_slice(&lock(&MESSAGE)).expect("a message is JSON");
    let Some(answer) = crate::answer(&message) else {
        return 0;
    };
    let mut kept = lock(&ANSWER);
    *kept = answer.to_string().into_bytes();
    (kept.as_ptr() as u64) << 32 | kept.len() as u64
}

fn lock(buffer: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}
