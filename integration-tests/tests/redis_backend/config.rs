//! A backend from a configuration file.

use std::path::Path;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind};
use async_cache_redis::{RedisBackend, RedisConfig};
use integration_tests::RedisServer;
use tempfile::TempDir;

use crate::certificates::{Authority, TlsServer, Validity};
use crate::rig::{Node, key};

fn parse(text: &str) -> RedisConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The error of a configuration that is wrong by itself.
async fn refused(text: &str) -> Error {
    let error = RedisBackend::from_config(parse(text)).connect_lazy().await.expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Config, "{text}: {error:?}");
    error
}

#[test]
fn every_setting_is_read() {
    let config = parse(
        r#"
        url = "rediss://cache.internal:6380/1"
        username = "app"
        password = "secret"
        connections = 3
        partitions = 4
        command_timeout = "500ms"
        read_timeout = "300ms"
        write_timeout = "1s 200ms"
        connect_timeout = "2s"
        credentials_timeout = "1m"
        allow_unknown_server = true

        [tls]
        ca_file = "ca.pem"
        client_cert_file = "client.pem"
        client_key_file = "client.key"
        server_name = "cache.example"
        "#,
    );
    assert_eq!(config.url, "rediss://cache.internal:6380/1");
    assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("app"), Some("secret")));
    assert_eq!((config.connections, config.partitions), (Some(3), Some(4)));
    assert_eq!(config.command_timeout, Some(Duration::from_millis(500)));
    assert_eq!(config.read_timeout, Some(Duration::from_millis(300)));
    assert_eq!(config.write_timeout, Some(Duration::from_millis(1200)));
    assert_eq!(config.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(config.credentials_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.allow_unknown_server, Some(true));
    let tls = config.tls.as_ref().expect("a table");
    assert_eq!(tls.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(tls.client_cert_file.as_deref(), Some(Path::new("client.pem")));
    assert_eq!(tls.client_key_file.as_deref(), Some(Path::new("client.key")));
    assert_eq!(tls.server_name.as_deref(), Some("cache.example"));
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    let config = parse(r#"url = "redis://app:hunter2@h""#);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

/// The file that docs/operations.md shows has every setting.
#[test]
fn the_documented_file_is_read() {
    let manual = include_str!("../../../docs/operations.md");
    let (_, rest) = manual.split_once("```toml\n").expect("a file");
    let (text, _) = rest.split_once("```").expect("its end");
    let shown = format!("{:?}", parse(text));
    assert!(!shown.contains("None"), "a setting is missing: {shown}");
}

#[test]
fn the_documented_file_with_sentinels_is_read() {
    let manual = include_str!("../../../docs/operations.md");
    let at = manual.find("```toml\n[sentinel]").expect("a file");
    let (text, _) = manual[at + "```toml\n".len()..].split_once("```").expect("its end");
    let config = parse(text);
    let sentinel = config.sentinel.as_ref().expect("a table");
    assert_eq!(sentinel.master, "mymaster");
    assert_eq!(sentinel.urls.len(), 3);
    assert!(sentinel.username.is_some() && sentinel.tls.is_some());
    let shown = format!("{config:?}");
    let password = sentinel.password.as_deref().expect("a password");
    assert!(!shown.contains(password) && shown.contains("mymaster"), "{shown}");
    let config = parse("[sentinel]\nmaster = \"m\"\nurls = [\"redis://:hunter2@s1\"]");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_sentinels_leads_to_the_master() {
    let server = RedisServer::start();
    let lines = integration_tests::sentinels::watching(server.port(), 1);
    let sentinel = RedisServer::sentinel(&lines);
    let text = format!("[sentinel]\nmaster = \"mymaster\"\nurls = [\"{}\"]", sentinel.url());
    let node = Node::of(RedisBackend::from_config(parse(&text)).await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    let error = refused(&format!("url = \"redis://h\"\n{text}")).await;
    assert!(error.to_string().contains("both"), "{error}");
    let error = refused(&format!("{text}\nusername = \"app\"")).await;
    assert!(error.to_string().contains("`password`"), "{error}");
}

#[test]
fn what_is_no_setting_is_refused_by_its_name() {
    for (text, name) in [
        ("url = \"redis://h\"\nconections = 3", "conections"),
        ("url = \"redis://h\"\n[tls]\nca = \"pem\"", "ca"),
        ("connections = 3", "set `url`, `urls`, `cluster` or the table `[sentinel]`"),
        ("url = \"redis://h\"\nread_timeout = \"soon\"", "read_timeout"),
    ] {
        let error = toml::from_str::<RedisConfig>(text).expect_err(text).to_string();
        assert!(error.contains(name), "{text}: {error}");
    }
}

/// Each setting reaches the builder.
#[tokio::test]
async fn settings_out_of_range_are_refused_as_the_builder_refuses_them() {
    for setting in [
        "connections = 65",
        "partitions = 1025",
        "command_timeout = \"0s\"",
        "read_timeout = \"0s\"",
        "write_timeout = \"0s\"",
        "connect_timeout = \"0s\"",
        "credentials_timeout = \"0s\"",
    ] {
        refused(&format!("url = \"redis://127.0.0.1\"\n{setting}")).await;
    }
    for (text, what) in [
        ("url = \"http://h\"", "wrong Redis URL"),
        ("url = \"redis://h\"\nusername = \"app\"", "`password`"),
        ("url = \"redis://:hunter2@h\"\npassword = \"secret\"", "or both beside it"),
        ("url = \"redis://h\"\n[tls]\nserver_name = \"h\"", "`rediss://`"),
        ("url = \"rediss://h\"\n[tls]\nca_file = \"/none/ca.pem\"", "`tls.ca_file` /none/ca.pem"),
        ("url = \"rediss://h\"\n[tls]\nclient_cert_file = \"c.pem\"", "`tls.client_key_file`"),
        ("url = \"rediss://h\"\n[tls]\nclient_key_file = \"c.key\"", "`tls.client_cert_file`"),
        ("url = \"rediss://h\"\n[tls]\nserver_name = \"no name\"", "`no name`"),
    ] {
        let error = refused(text).await;
        assert!(error.to_string().contains(what), "{text}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_a_configuration_connects_by_tls_with_its_files_and_its_password() {
    let authority = Authority::new();
    let shown = authority.sign("cache.internal", Validity::Now);
    let server = TlsServer::start(&authority, &shown, &["--tls-auth-clients", "yes"]);
    server.server.set_user("app", "~* &* +@all");
    let files = TempDir::with_prefix("async-cache-config-").unwrap();
    let client = authority.sign("client", Validity::Now);
    for (name, text) in [("ca", &authority.pem()), ("cert", &client.certificate), ("key", &client.key)] {
        std::fs::write(files.path().join(name), text).unwrap();
    }
    let at = files.path().display();
    let config = parse(&format!(
        "url = \"{}/1\"\nusername = \"app\"\npassword = \"secret\"\nconnections = 1\ncommand_timeout = \"5s\"\n\
         [tls]\nca_file = \"{at}/ca\"\nclient_cert_file = \"{at}/cert\"\nclient_key_file = \"{at}/key\"\n\
         server_name = \"cache.internal\"\n",
        server.url()
    ));
    let node = Node::of(RedisBackend::from_config(config).await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    let list = server.server.cli::<String>(&["CLIENT", "LIST"]);
    let of_app = list.lines().filter(|line| line.contains("user=app ") && line.contains(" db=1 ")).count();
    assert_eq!(of_app, 2, "one connection for commands, and one for messages: {list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_builder_overrides_a_configuration() {
    let server = RedisServer::start();
    let config = RedisConfig::new("redis://127.0.0.1:1");
    let node = Node::of(RedisBackend::from_config(config).url(server.url()).connect().await.unwrap()).await;
    node.store(&key("k"), b"v").await;
}
