//! The models in memory: loaded when a job needs them, and put out again, the one not used for longest first, when
//! another needs the room.

use super::EngineStatus;
use crate::{
    catalog::{Catalog, CatalogModel},
    error::panic_message,
    limits::MODELS_MEMORY_PERCENT,
};
use bytesize::ByteSize;
use scumble_diffusion::{
    Device, Error, ErrorKind, LoadOptions, Pipeline, device_memory_available_bytes,
};
use scumble_protocol::ModelId;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};
use sysinfo::System;
use tokio::sync::watch;

/// The models in memory, the one used last at the end.
pub(super) struct LoadedModels {
    catalog: Arc<Catalog>,
    device: Device,
    options: LoadOptions,
    memory_max_bytes: u64,
    pipelines: Vec<Loaded>,
}

struct Loaded {
    id: ModelId,
    bytes: u64,
    pipeline: Pipeline,
}

/// Why a model is not in memory.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// A job from an earlier run names a model that is not here now.
    #[error("there is no model {0} here any more")]
    Unknown(ModelId),
    /// Its files are not sound, or there is no room.
    #[error("the model cannot be loaded: {0}")]
    Failed(Error),
}

impl LoadedModels {
    /// None yet. The limit is a part of the free memory if it is not given.
    pub(super) fn new(
        catalog: Arc<Catalog>,
        device: Device,
        options: LoadOptions,
        memory_max_bytes: Option<u64>,
    ) -> Self {
        catalog.set_bytes_per_weight(options.precision.bytes_per_weight(&device));
        let memory_max_bytes = memory_max_bytes.unwrap_or_else(|| default_limit(&device));
        tracing::info!(memory_max = %ByteSize(memory_max_bytes), "memory for models");
        Self {
            catalog,
            device,
            options,
            memory_max_bytes,
            pipelines: Vec::new(),
        }
    }

    /// The model, loaded now if it is not.
    pub(super) fn get(&mut self, id: &ModelId) -> Result<&mut Pipeline, LoadError> {
        if let Some(index) = self.pipelines.iter().position(|loaded| loaded.id == *id) {
            let used = self.pipelines.remove(index);
            self.pipelines.push(used);
        } else {
            let catalog = Arc::clone(&self.catalog);
            let model = catalog
                .get(id)
                .ok_or_else(|| LoadError::Unknown(id.clone()))?;
            let loaded = self.load(model).map_err(LoadError::Failed)?;
            self.pipelines.push(loaded);
        }
        let used = self
            .pipelines
            .last_mut()
            .expect("the model was put last above: this is a bug");
        Ok(&mut used.pipeline)
    }

    /// Puts a model out; the next job that wants it loads it afresh.
    pub(super) fn put_out(&mut self, id: &ModelId) {
        self.pipelines.retain(|loaded| loaded.id != *id);
        if let Some(model) = self.catalog.get(id) {
            model.set_loaded(false);
        }
    }

    /// Loads the default model, then those that the user named as far as they fit. A model that was merely found fails
    /// the jobs that want it, and nothing else.
    pub(super) fn load_first(
        &mut self,
        status: &watch::Sender<EngineStatus>,
    ) -> Result<(), (ModelId, String)> {
        let catalog = Arc::clone(&self.catalog);
        let mut room = self.memory_max_bytes;
        let first: Vec<&CatalogModel> = catalog
            .iter()
            .enumerate()
            .filter(|(index, model)| {
                let bytes = catalog.memory_bytes(model);
                let wanted = *index == 0 || (model.is_named() && bytes <= room);
                room = room.saturating_sub(if wanted { bytes } else { 0 });
                wanted
            })
            .map(|(_, model)| model)
            .collect();
        for (loaded, model) in first.iter().enumerate() {
            status.send_replace(EngineStatus::Loading {
                model: model.id.clone(),
                loaded,
                total: first.len(),
            });
            let message = match catch_unwind(AssertUnwindSafe(|| self.get(&model.id).map(|_| ()))) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(payload) => panic_message(payload.as_ref()).to_owned(),
            };
            if model.must_be_sound() {
                return Err((model.id.clone(), message));
            }
            tracing::error!(model = %model.id, error = message, "the model cannot be used");
        }
        Ok(())
    }

    fn load(&mut self, model: &CatalogModel) -> Result<Loaded, Error> {
        let bytes = self.catalog.memory_bytes(model);
        self.make_room(self.memory_max_bytes.saturating_sub(bytes));
        if bytes > self.memory_max_bytes {
            tracing::warn!(
                model = %model.id,
                size = %ByteSize(bytes),
                memory_max = %ByteSize(self.memory_max_bytes),
                "the model is larger than the memory for models; it is loaded alone"
            );
        }
        let started = Instant::now();
        let load = || Pipeline::load(&model.files, &self.device, &self.options);
        let pipeline = match load() {
            Err(error) if error.kind() == ErrorKind::OutOfMemory && !self.pipelines.is_empty() => {
                tracing::warn!(model = %model.id, "no memory for the model; all others make room");
                self.make_room(0);
                Pipeline::load(&model.files, &self.device, &self.options)?
            }
            loaded => loaded?,
        };
        model.set_loaded(true);
        tracing::info!(
            model = %model.id,
            size = %ByteSize(bytes),
            elapsed_ms = started.elapsed().as_millis(),
            "model loaded"
        );
        Ok(Loaded {
            id: model.id.clone(),
            bytes,
            pipeline,
        })
    }

    /// Puts models out until the others take no more than this.
    fn make_room(&mut self, bytes_max: u64) {
        while self.bytes() > bytes_max
            && let Some(oldest) = self.pipelines.first().map(|loaded| loaded.id.clone())
        {
            tracing::info!(model = %oldest, "model put out of memory");
            self.put_out(&oldest);
        }
    }

    fn bytes(&self) -> u64 {
        self.pipelines.iter().map(|loaded| loaded.bytes).sum()
    }
}

/// Of the device's own memory, or of the host's, within a container's limit. No limit where the system does not tell.
fn default_limit(device: &Device) -> u64 {
    device_memory_available_bytes(device)
        .or_else(host_memory_available_bytes)
        .map_or(u64::MAX, |bytes| bytes / 100 * MODELS_MEMORY_PERCENT)
}

fn host_memory_available_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let host = system.available_memory();
    let container = system.cgroup_limits().map(|limits| limits.free_memory);
    Some(container.map_or(host, |container| host.min(container))).filter(|bytes| *bytes > 0)
}
