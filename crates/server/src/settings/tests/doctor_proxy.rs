//! The options of `landfall doctor proxy`.

use super::*;

#[test]
fn doctor_proxy_accepts_a_url_and_options() {
    let args = [
        "doctor",
        "proxy",
        "https://example.com/files/",
        "-header",
        "Authorization: Bearer a:b",
        "--header=X-Key:1",
        "-size=5MiB",
        "--slow",
        "2m",
        "-response-timeout=1s",
        "-json",
    ];
    let Ok(Invocation::Run(loaded, options)) = run(&args, &[]) else {
        panic!("{args:?}")
    };
    assert_eq!(loaded.subcommand, Subcommand::DoctorProxy);
    assert!(options.json);
    let proxy = options.proxy;
    assert_eq!(proxy.url, "https://example.com/files/");
    let headers: Vec<_> = proxy
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(headers, [("authorization", "Bearer a:b"), ("x-key", "1")]);
    assert_eq!(proxy.size, 5 << 20);
    assert_eq!(proxy.slow, Some(Duration::from_secs(120)));
    assert_eq!(proxy.response_timeout, Duration::from_secs(1));
}

#[test]
fn doctor_proxy_rejects_other_urls_and_fields() {
    for (args, reason) in [
        (&["doctor", "proxy"][..], "URL"),
        (&["doctor", "proxy", "example.com/files"], "has no scheme"),
        (
            &["doctor", "proxy", "ftp://example.com/"],
            "neither the scheme",
        ),
        (
            &["doctor", "proxy", "https://a:b@example.com/"],
            "is not a public URL",
        ),
        (
            &["doctor", "proxy", "https://x.example/", "-header=secret"],
            "is not a header field",
        ),
        (
            &[
                "doctor",
                "proxy",
                "https://x.example/",
                "-header=a b: secret",
            ],
            "is not a header field",
        ),
    ] {
        let failure = run(args, &[]).unwrap_err().to_string();
        assert!(failure.contains(reason), "{args:?}: {failure}");
    }
}
