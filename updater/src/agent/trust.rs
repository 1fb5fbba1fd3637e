//! Fresh metadata, and what is remembered of it beside the metadata itself: without that, one flipped bit in it would keep a host from
//! updates until somebody comes.

use std::path::Path;

use super::kept::Kept;
use super::{Agent, AgentError, trust_folder};
use crate::fetch::Session;
use crate::host::Host;
use crate::machine::Record;
use crate::store::StoreError;

impl<'h> Agent<'h> {
    /// Trusted metadata, as fresh as the server's or the medium's. Which versions these are is remembered, as far as that can be kept.
    pub(super) fn refresh(&mut self) -> Result<Session<'h>, AgentError> {
        let (folder, root) = (trust_folder(&self.folder), &self.config.repository.root);
        let (seen, now) = (self.record.seen.as_ref(), self.now_of_expiry());
        let session = Session::refresh(self.remote(), &folder, root, seen, now);
        let session = session.map_err(|error| self.told(error))?;
        let seen = session.seen();
        if let Err(error) = self.amend(|record| record.seen = seen) {
            tracing::warn!("cannot remember which metadata was seen: {error}");
        }
        Ok(session)
    }

    /// Forgets which versions of the metadata were seen, and says whether there was anything to forget. A record that cannot be used
    /// remembers nothing.
    pub fn forget_seen(host: &dyn Host, folder: &Path) -> Result<bool, StoreError> {
        let kept = Kept::new(host, folder);
        match kept.load() {
            Ok(record) if record.seen.is_some() => kept.save(&Record { seen: None, ..record }).map(|()| true),
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Format { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
