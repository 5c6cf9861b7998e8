//! To come.
use super::{Complete, Direct};
use crate::{DirectError, Record};
use http::request::Parts;
impl Direct {
    /// Looks whether the object of an upload is there.
    pub async fn check(
        &self,
        record: &Record,
        request: Option<&mut Parts>,
    ) -> Result<Complete, DirectError> {
        todo!()
    }
    /// To come.
    pub async fn complete(
        &self,
        record: &Record,
        parts: &[(u32, String)],
        request: &mut Parts,
    ) -> Result<Complete, DirectError> {
        todo!()
    }
    /// To come.
    pub async fn cancel(&self, record: &Record, request: &mut Parts) -> Result<(), DirectError> {
        todo!()
    }
    pub(super) async fn within_bounds(&self, record: &Record) -> Result<(), DirectError> {
        todo!()
    }
}
