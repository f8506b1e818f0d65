//! The masters of a cluster, for an examination of each.

use std::sync::Arc;

use async_cache_core::{Error, ErrorKind, Result};
use redis::{ConnectionAddr, Value, cmd};

use super::examiner::Examiner;
use super::seed::Seed;
use crate::connection::server::Deployment;
use crate::connection::settings::Server;
use crate::parts::Settings;
use crate::topology::map;

impl Examiner {
    /// Connects to the first node that the settings name.
    pub(super) async fn of_first_node(settings: Settings) -> Result<Self> {
        let server = settings.first_node()?;
        Self::of_node(Arc::new(Seed { settings, server: server.clone() }), &server).await
    }

    async fn of_node(seed: Arc<Seed>, server: &Server) -> Result<Self> {
        let parts = seed.settings.prepare_node(server, Deployment::ClusterNode)?;
        let mut examiner = Self::of(parts, seed.settings.deadlines.longest()).await?;
        examiner.cluster = Some(seed);
        Ok(examiner)
    }

    /// The host and the port of each master of the cluster that has slots, in the order of the slots, as this node
    /// knows them.
    ///
    /// # Errors
    ///
    /// If the node does not answer, does not permit it, or knows no master.
    pub async fn masters(&self) -> Result<Vec<(String, u16)>> {
        let slots: Value = self.run("cluster|slots", cmd("CLUSTER").arg("SLOTS")).await?;
        let masters = match self.opener.host.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                map::masters(slots, host, *port)
            }
            _ => None,
        };
        masters.filter(|masters| !masters.is_empty()).ok_or_else(|| {
            let what = format!("the node at {} knows no master with slots", self.address());
            Error::new(ErrorKind::Backend, what)
        })
    }

    /// Connects to another node of the cluster, with the same settings.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect), and [`ErrorKind::Config`] without a cluster.
    pub async fn at(&self, host: &str, port: u16) -> Result<Self> {
        let Some(seed) = &self.cluster else {
            return Err(Error::new(ErrorKind::Config, "these are not the settings of a cluster"));
        };
        let addr = ConnectionAddr::Tcp(host.to_owned(), port);
        let (info, encryption) = (seed.server.info.clone().set_addr(addr), seed.server.encryption);
        Self::of_node(Arc::clone(seed), &Server { info, encryption }).await
    }
}
