pub(crate) async fn run(_port: u16, _dir: std::path::PathBuf) -> crate::Result {
    Ok(())
}
