//! Limits and faults of plugins: each fails its message with a reason.

use landfall_hooks::format::{Format, body};

use super::*;

#[track_caller]
fn says(text: &str, why: &str) {
    let text = text
        .strip_prefix("the plugin failed in pre-create: ")
        .unwrap();
    assert!(text.starts_with(why), "{text}\ninstead of\n{why}");
}

#[tokio::test]
async fn traps_are_failures() {
    for (hook, why) in [
        ("unreachable", "it panicked"),
        (
            "(i64.div_s (i64.const 1) (i64.const 0))",
            "it trapped: integer divide by zero",
        ),
        (
            "(i64.load (i32.const 65529))",
            "it trapped: out of bounds memory access",
        ),
        (
            "(i64.add (call $again (local.get 0) (local.get 1)) (i64.const 1))",
            "it trapped: call stack exhausted",
        ),
        (
            "(loop br 0) unreachable",
            "it used up its 1000000 units of fuel",
        ),
        (
            "(drop (memory.grow (i32.const 16))) (i64.const 0)",
            "it needs more than 1048576 bytes of memory",
        ),
        (
            // A fill costs fuel by its length.
            "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0)) unreachable",
            "it used up its 1000000 units of fuel",
        ),
    ] {
        let plugin = plugin(hook);
        says(&failure(&plugin).await, why);
        // The next message is not affected.
        says(&failure(&plugin).await, why);
    }
}

#[tokio::test]
async fn memory_can_grow_to_the_limit() {
    let plugin = plugin("(drop (memory.grow (i32.const 15))) (i64.const 0)");
    assert_eq!(ask(&plugin).await.unwrap(), HookResponse::default());
}

#[tokio::test]
async fn invalid_allocation_is_a_failure() {
    for pointer in ["65500", "65536", "-1"] {
        let plugin = module(&format!(
            r#"(memory (export "memory") 1)
            (func (export "landfall_alloc") (param i32) (result i32) (i32.const {pointer}))
            {}"#,
            hooked("(i64.const 0)")
        ));
        let text = failure(&plugin.unwrap()).await;
        says(&text, "its landfall_alloc returned ");
        assert!(text.ends_with("bytes do not fit there"), "{text}");
    }
    let plugin = module(&format!(
        r#"(memory (export "memory") 1)
        (func (export "landfall_alloc") (param i32) (result i32) unreachable)
        {}"#,
        hooked("(i64.const 0)")
    ));
    says(&failure(&plugin.unwrap()).await, "it panicked");
}

#[tokio::test]
async fn response_outside_the_memory_is_a_failure() {
    for (pointer, length) in [(65535, 2), (65537, 1), (u64::from(u32::MAX), 65536)] {
        let text = failure(&plugin(&at(pointer, length))).await;
        says(
            &text,
            &format!("its response of {length} bytes at {pointer} is outside"),
        );
    }
}

#[tokio::test]
async fn responses_are_limited_in_size() {
    let mut answer = br#"{"RejectUpload":true}"#.to_vec();
    answer.resize(60 * 1024, b' ');
    assert!(ask(&answering(&answer)).await.unwrap().reject_upload);
    says(
        &failure(&plugin(&at(0, 65537))).await,
        "its response has 65537 bytes; the limit is 65536",
    );
}

#[tokio::test]
async fn invalid_response_is_a_failure() {
    says(
        &failure(&answering(b"{\"HTTPResponse\":\xff}")).await,
        "its response is not UTF-8",
    );
    let text = failure(&answering(b"maybe")).await;
    assert!(
        text.starts_with("failed to parse the plugin's response to pre-create: "),
        "{text}"
    );
}

#[tokio::test]
async fn calls_share_no_state() {
    // It rejects if its global, its memory or its data is not fresh.
    let plugin = module(&format!(
        r#"{DEFAULT}
        (global $seen (mut i64) (i64.const 0))
        (data (i32.const 4096) "{{\22RejectUpload\22:true}}")
        {}"#,
        hooked(
            "(local i64)
            (local.set 2 (i64.or (global.get $seen) (i64.load (i32.const 8192))))
            (global.set $seen (i64.const 17592186044437))
            (i64.store (i32.const 8192) (global.get $seen))
            (local.get 2)"
        )
    ))
    .unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&plugin).await.unwrap(), HookResponse::default());
    }
}

#[tokio::test]
async fn concurrent_calls_are_limited() {
    log::listen();
    // Messages of even length are slow; each logs a line at its end.
    let module = wat::parse_str(format!(
        r#"(module
        (import "landfall" "log" (func $log (param i32 i32 i32)))
        {DEFAULT}
        (data (i32.const 4096) "shortlong")
        {})"#,
        hooked(
            "(local $left i32)
            (if (i32.and (local.get 1) (i32.const 1))
                (then (call $log (i32.const 0) (i32.const 4096) (i32.const 5)))
                (else
                    (local.set $left (i32.const 1000000))
                    (loop
                        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                        (br_if 0 (local.get $left)))
                    (call $log (i32.const 0) (i32.const 4101) (i32.const 4))))
            (i64.const 0)"
        )
    ))
    .unwrap();
    let mut settings = settings();
    settings.path = "/plugins/parallel.wasm".into();
    settings.fuel = 100_000_000;
    settings.max_concurrency = 1;
    let plugin = Wasm::from_bytes(&settings, &module).unwrap();
    let (mut long, mut short) = (message(HookName::PreCreate), message(HookName::PreCreate));
    if body(Format::V2, &long).len().is_multiple_of(2) {
        short.request.uri.push('x');
    } else {
        long.request.uri.push('x');
    }
    let [first, second, third] = [&long, &short, &short].map(|it| plugin.deliver(it));
    let (first, second, third) = tokio::join!(first, second, third);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    let lines = log::written_by("parallel.wasm");
    let ends: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split('"').nth(5))
        .collect();
    assert_eq!(ends, ["long", "short", "short"]);
}

#[tokio::test]
async fn abandoned_call_keeps_its_permit_until_it_ends() {
    let mut settings = settings();
    settings.max_concurrency = 1;
    settings.fuel = 20_000_000;
    let hook = hooked("(loop br 0) unreachable");
    let module = wat::parse_str(format!("(module {DEFAULT} {hook})")).unwrap();
    let plugin = Wasm::from_bytes(&settings, &module).unwrap();
    let question = message(HookName::PreCreate);
    let mut call = Box::pin(plugin.deliver(&question));
    // The first poll starts it.
    let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx)));
    assert!(poll.await.is_pending());
    drop(call);
    says(
        &failure(&plugin).await,
        "it used up its 20000000 units of fuel",
    );
}
