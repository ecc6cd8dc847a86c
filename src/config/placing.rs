//! How containers are placed: the settings of `manager::PlacingSettings`.

use super::Error;
use super::settings::Sources;
use super::values::{overcommit, read_cpus, read_size, slots, strategy, survive};
use crate::manager::PlacingSettings;
use crate::model::Resources;

pub(super) fn placing(sources: &Sources) -> Result<PlacingSettings, Error> {
    let bytes = |text: &str| match text {
        "0" => Ok(0),
        text => read_size(text).map(|bytes| bytes as u64),
    };
    Ok(PlacingSettings {
        strategy: sources
            .one("strategy", |from| &from.strategy, strategy)?
            .unwrap_or_default(),
        slots: sources.one("slots", |from| &from.slots, slots)?,
        reserve: Resources {
            cpu_nanos: sources
                .one("reserve-cpu", |from| &from.reserve_cpu, read_cpus)?
                .unwrap_or_default(),
            memory_bytes: sources
                .one("reserve-memory", |from| &from.reserve_memory, bytes)?
                .unwrap_or_default(),
        },
        survive_node_loss: sources
            .one("survive-node-loss", |from| &from.survive_node_loss, survive)?
            .unwrap_or_default(),
        overcommit_per_mille: sources
            .one("overcommit", |from| &from.overcommit, overcommit)?
            .unwrap_or_default(),
        default_claim: Resources {
            cpu_nanos: sources
                .one("default-cpu", |from| &from.default_cpu, read_cpus)?
                .unwrap_or_default(),
            memory_bytes: sources
                .one("default-memory", |from| &from.default_memory, bytes)?
                .unwrap_or_default(),
        },
    })
}
