//! A gRPC service with two instances.
//! `cargo run --bin tonic_service`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache};
use tokio::net::TcpListener;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

/// The client and the server that `build.rs` generates.
#[allow(missing_docs, unreachable_pub, clippy::unused_async, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/example.Users.rs"));
}
use generated::users_client::UsersClient;
use generated::users_server::{Users, UsersServer};

/// A request for a user.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Id {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// A user.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct User {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
}

/// An empty answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {}

struct Service {
    users: TieredCache<u64, User>,
    version: Arc<AtomicU64>, // the database
}

#[tonic::async_trait]
impl Users for Service {
    async fn find(&self, request: Request<Id>) -> Result<Response<User>, Status> {
        let id = request.get_ref().id;
        let version = Arc::clone(&self.version);
        let query = move || async move {
            let version = version.load(Ordering::SeqCst);
            Ok::<_, std::io::Error>(
                (id < 100).then(|| User { id, name: format!("user {id}, version {version}") }),
            )
        };
        let found = self.users.get_or_load_optional(&id, query).await.map_err(|error| status(&error))?;
        let user = found.ok_or_else(|| Status::not_found(format!("user {id} does not exist")))?;
        Ok(Response::new(User::clone(&user)))
    }

    async fn rename(&self, request: Request<User>) -> Result<Response<Done>, Status> {
        self.version.fetch_add(1, Ordering::SeqCst); // commit first
        if let Err(error) = self.users.invalidate(&request.get_ref().id).await {
            eprintln!("{error:?}"); // the write is committed, and the cache retries the invalidation
        }
        Ok(Response::new(Done {}))
    }
}

/// The status of a failed lookup. The error's text is for the log, not for the client.
fn status(error: &Error) -> Status {
    eprintln!("{error:?}");
    let code = match error.kind() {
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Backend | ErrorKind::Overloaded | ErrorKind::Shutdown => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, "the lookup failed")
}

/// Starts an instance on a free port, and connects to it.
async fn instance(
    l2: &MemoryBackend,
    version: &Arc<AtomicU64>,
) -> Result<UsersClient<Channel>, Box<dyn std::error::Error>> {
    let users =
        TieredCache::builder().namespace("users").l1(MemoryBackend::new(10_000)).l2(l2.clone()).build()?;
    let service = UsersServer::new(Service { users, version: Arc::clone(version) });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(UsersClient::connect(format!("http://{address}")).await?)
}

/// Makes some calls, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    let (l2, version) = (MemoryBackend::new(10_000), Arc::new(AtomicU64::new(1)));
    let (mut a, mut b) = (instance(&l2, &version).await?, instance(&l2, &version).await?);
    for client in [&mut a, &mut b] {
        assert_eq!(client.find(Id { id: 42 }).await?.into_inner().name, "user 42, version 1");
    }
    a.rename(User { id: 42, name: String::new() }).await?;
    assert_eq!(a.find(Id { id: 42 }).await?.into_inner().name, "user 42, version 2");
    // The other instance follows as soon as the message arrives.
    while b.find(Id { id: 42 }).await?.into_inner().name != "user 42, version 2" {}
    let missing = a.find(Id { id: 666 }).await.expect_err("there is no such user");
    assert_eq!(missing.code(), Code::NotFound);
    println!("{missing}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}
