//! The ABI between plugin and server, with arbitrary pointers and bytes.

use landfall_hooks::format::{self, Format, body};
use proptest::prelude::*;

use super::*;

/// The memory of these plugins: one page.
const PAGE: usize = 65536;

/// Returns the expected response or the start of the error of a plugin that allocates at `room`,
/// returns `pointer` and `length`, and has `bytes` at that place.
fn expected(
    question: &[u8],
    bytes: &[u8],
    room: u32,
    (pointer, length): (u32, u32),
) -> Result<HookResponse, &'static str> {
    let span = |pointer: u32, length: usize| {
        let end = (pointer as usize).checked_add(length)?;
        (end <= PAGE).then_some(pointer as usize..end)
    };
    let mut memory = vec![0; PAGE];
    memory[usize::from(BYTES)..][..bytes.len()].copy_from_slice(bytes);
    let room =
        span(room, question.len()).ok_or("the plugin failed in pre-create: its landfall_alloc")?;
    memory[room].copy_from_slice(question);
    if length > 65536 {
        return Err("the plugin failed in pre-create: its response has");
    }
    let answer =
        span(pointer, length as usize).ok_or("the plugin failed in pre-create: its response of")?;
    let answer = std::str::from_utf8(&memory[answer])
        .map_err(|_| "the plugin failed in pre-create: its response is not UTF-8")?;
    if answer.is_empty() {
        return Ok(HookResponse::default());
    }
    format::parse_response(answer.as_bytes())
        .map_err(|_| "failed to parse the plugin's response to pre-create")
}

/// The position of the bytes.
const BYTES: u16 = 40_000;

fn places() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(u32::from(BYTES)),
        2 => 0..2 * PAGE as u32,
        2 => PAGE as u32 - 700..=PAGE as u32,
        1 => any::<u32>(),
    ]
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[ -~é€]{0,40}".prop_map(String::into_bytes),
        r#"\{"(RejectUpload|StopUpload)":(true|false|1)\} {0,9}"#.prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_plugin_result_is_a_response_or_an_error(
        room in places(),
        pointer in places(),
        length in prop_oneof![3 => 0_u32..64, 1 => Just(u32::MAX), 1 => 0..2 * PAGE as u32],
        whole in any::<bool>(),
        bytes in contents(),
    ) {
        let length = if whole { bytes.len() as u32 } else { length };
        let data: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let plugin = module(&format!(
            r#"(memory (export "memory") 1)
            (data (i32.const {BYTES}) "{data}")
            (func (export "landfall_alloc") (param i32) (result i32) (i32.const {room}))
            {}"#,
            hooked(&at(u64::from(pointer), length as usize)),
        ))
        .unwrap();
        let question = message(HookName::PreCreate);
        let wanted = expected(&body(Format::V2, &question), &bytes, room, (pointer, length));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match (runtime.block_on(plugin.deliver(&question)), wanted) {
            (Ok(found), Ok(wanted)) => prop_assert_eq!(found, wanted),
            (Err(found), Err(start)) => {
                prop_assert!(found.message.starts_with(start), "{} / {start}", found.message);
            }
            (found, wanted) => prop_assert!(false, "{found:?} instead of {wanted:?}"),
        }
    }
}
