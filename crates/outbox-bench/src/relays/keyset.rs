use anyhow::{Result, ensure};
use outbox::RelayConfig;
use outbox::ports::{ReadLimits, ShardId, Storage as _};

use super::{Drained, Stopwatch};
use crate::services::Outbox;

/// How fast the relay's reader reads and decodes every row, with nothing else to do: the other ceiling.
///
/// # Errors
///
/// The database fails, or a row is missing.
pub async fn read_alone(outbox: &Outbox, rows: u64) -> Result<Drained> {
    let config = RelayConfig::default();
    let limits =
        ReadLimits { rows: config.batch_size, bytes: config.batch_bytes, max_message_bytes: config.max_message_bytes };
    let mut watch = Stopwatch::start();
    let storage = outbox.storage(false)?;
    let shards: Vec<_> = (0..storage.check().await?.shards).map(ShardId).collect();
    let mut reader = storage.reader().await?;
    reader.assign(&shards);
    let mut read = 0;
    loop {
        let batch = reader.read(&limits).await?;
        if batch.messages.is_empty() {
            ensure!(!batch.more, "a read brought nothing and says that there is more");
            break;
        }
        watch.confirmed(batch.messages.len() as u64);
        read += batch.messages.len() as u64;
    }
    ensure!(read == rows, "{rows} rows are pending and {read} were read");
    Ok(watch.stop(read))
}
