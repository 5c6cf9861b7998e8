//! Servers with only the lower layers of Landfall: the benchmark compares them with it and with each other.
//!
//! ```text
//! layers memory PORT FOLDER       a connection loop on tokio and httparse, bodies in memory
//! layers httparse PORT FOLDER     the same, each body in a file
//! layers hyper PORT FOLDER        hyper instead of the loop
//! ```
//!
//! Each processor has a thread with its own runtime, as in Landfall. They implement the part of tus that the
//! load generator uses, and check nothing.

mod on_httparse;
mod on_hyper;
mod store;

use std::{env, io, net::TcpListener, path::Path, process::ExitCode, sync::Arc, thread};

use store::Store;
use tokio::{net::TcpStream, runtime};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [layer, port, folder] = arguments.as_slice() else {
        eprintln!("usage: layers memory|httparse|hyper PORT FOLDER");
        return ExitCode::FAILURE;
    };
    match serve(layer, port, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("layers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves on a port of 127.0.0.1 until it is killed.
fn serve(layer: &str, port: &str, folder: &Path) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let port: u16 = port.parse().map_err(|_| invalid("the port is no number"))?;
    let is_hyper = layer == "hyper";
    let store = Arc::new(match layer {
        "memory" => Store::memory(),
        "httparse" | "hyper" => Store::folder(folder)?,
        _ => return Err(invalid("the layer is memory, httparse or hyper")),
    });
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let workers = (0..thread::available_parallelism()?.get())
        .map(|_| worker())
        .collect::<io::Result<Vec<_>>>()?;
    for (worker, stream) in workers.iter().cycle().zip(listener.incoming()) {
        let (stream, store) = (stream?, Arc::clone(&store));
        worker.spawn(async move {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let stream = TcpStream::from_std(stream)?;
            if is_hyper {
                on_hyper::connection(stream, store).await
            } else {
                on_httparse::connection(stream, &store).await
            }
        });
    }
    Ok(())
}

fn worker() -> io::Result<runtime::Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
