//! The object store in which the journal's copy stands, as one process reaches it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};

use super::{
    network::Party,
    stagehand::lock,
    weakness::Weakness,
    world::{SharedWorld, World},
};
use crate::{
    model::span::Span,
    port::{runtime::SharedRuntime, store::Store},
};

/// Who gets no answer waits so long for it, as the client of a real store does.
const WITHIN: Span = Span::from_secs(30);

/// The store.
pub struct Bucket {
    objects: Arc<InMemory>,
    world: SharedWorld,
    /// Time of the process that asks; a person who takes a journal up is always answered at once.
    runtime: Option<SharedRuntime>,
}

impl Bucket {
    /// The store as a process reaches it over the network, or a person at once.
    #[must_use]
    pub fn store(
        objects: &Arc<InMemory>,
        world: &SharedWorld,
        runtime: Option<SharedRuntime>,
    ) -> Store {
        Store {
            objects: Arc::new(Self {
                objects: objects.clone(),
                world: world.clone(),
                runtime,
            }),
            prefix: Path::default(),
            name: "the simulated store".to_owned(),
            hosts: Vec::new(),
        }
    }

    /// One way to the store or back.
    async fn way(&self, is_back: bool) -> Result<()> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let arrives = lock(&self.world).way_to_store(is_back);
        let takes = arrives.unwrap_or(WITHIN);
        runtime.sleep_until(runtime.now().after(takes)).await;
        arrives.map(drop).ok_or_else(silent)
    }

    /// A listing comes at once or not at all.
    fn listing<T: Send + 'static>(
        &self,
        of: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let is_answered = self.runtime.is_none()
            || (lock(&self.world).way_to_store(false).is_some()
                && lock(&self.world).way_to_store(true).is_some());
        if is_answered {
            of
        } else {
            stream::once(async { Err(silent()) }).boxed()
        }
    }
}

fn silent() -> Error {
    Error::Generic {
        store: "simulated",
        source: "no answer in time".into(),
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated store")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.way(false).await?;
        let overwrites = lock(&self.world).scenario.weakness == Some(Weakness::CopyOverwrites);
        let opts = PutOptions {
            mode: if overwrites {
                PutMode::Overwrite
            } else {
                opts.mode
            },
            ..opts
        };
        let put = self.objects.put_opts(location, payload, opts).await;
        if put.is_ok() && self.runtime.is_some() {
            lock(&self.world).deposed(|| format!("{location} was put into the journal's copy"));
        }
        self.way(true).await?;
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.way(false).await?;
        let got = self.objects.get_opts(location, options).await;
        self.way(true).await?;
        got
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.objects.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.way(false).await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// What a person does to the store is done before anything else happens.
pub fn at_once<T>(doing: impl Future<Output = T>) -> Option<T> {
    doing.now_or_never()
}

impl World {
    /// How long it takes to the store, or back; none where it never arrives.
    pub(super) fn way_to_store(&mut self, is_back: bool) -> Option<Span> {
        let (from, to) = (self.speaker, Party::Store);
        let way = if is_back { (to, from) } else { (from, to) };
        self.network.send(way, &mut self.chance).arrives
    }
}
