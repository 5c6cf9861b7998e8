//! Generates the Rust code of `hook.proto`. It is committed, so that builds need no Protobuf compiler.
//!
//! ```text
//! cargo run --manifest-path crates/hooks/proto/generate/Cargo.toml             writes the code
//! cargo run --manifest-path crates/hooks/proto/generate/Cargo.toml -- --check  fails if it differs
//! ```

use std::{env, error::Error, fs, path::Path, process::ExitCode};

/// A side of the service: the client in the product, or the server in its tests.
struct Side {
    server: bool,
    file: &'static str,
}

const SIDES: [Side; 2] = [
    Side {
        server: false,
        file: "src/grpc/generated.rs",
    },
    Side {
        server: true,
        file: "tests/it/grpc/generated.rs",
    },
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => return Err(format!("unknown argument {other:?}; use --check").into()),
    };
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut differs = false;
    for side in SIDES {
        let code = generate(&hooks.join("proto"), side.server)?;
        let file = hooks.join(side.file);
        if !check {
            fs::write(file, code)?;
        } else if fs::read_to_string(file)? != code {
            eprintln!(
                "crates/hooks/{} differs from the code generated from hook.proto",
                side.file
            );
            differs = true;
        }
    }
    Ok(if differs {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn generate(folder: &Path, server: bool) -> Result<String, Box<dyn Error>> {
    let service = protox::compile(["hook.proto"], [folder])?;
    let out = env::temp_dir().join(format!("generate-hook-proto-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .build_client(!server)
        .build_server(server)
        .build_transport(false)
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(service)?;
    // The file has the name of the package.
    let code = fs::read_to_string(out.join("proto.rs"))?;
    fs::remove_dir_all(out)?;
    Ok(code)
}
