//! Direct uploads to S3.

use crate::{Completed, DirectMode, Error, upload::Run};

pub(crate) async fn run(run: Run, mode: DirectMode) -> Result<Completed, Error> {
    let _ = (run, mode);
    todo!()
}
