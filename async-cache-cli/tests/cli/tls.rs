//! TLS.

use crate::certificates::{Authority, TlsServer, Validity};
use crate::rig::{Answer, program, run};

async fn doctor(url: &str, words: &[&str]) -> Answer {
    let mut command = program();
    command.args(["--redis", url, "doctor", "--json"]).args(words);
    run(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_the_authority_that_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = Authority::new();
    let shown = authority.sign("127.0.0.1", Validity::Now);
    let server = TlsServer::start(&authority, &shown, &["--tls-auth-clients", "yes"]);
    let client = authority.sign("client", Validity::Now);
    let (ca, cert, key) = (
        file("ca.pem", &authority.pem()),
        file("cert.pem", &client.certificate),
        file("key.pem", &client.key),
    );

    let all = ["--ca-file", &ca, "--client-cert-file", &cert, "--client-key-file", &key];
    let answer = doctor(&server.url(), &all).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    let report = answer.json();
    let tls = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "tls").unwrap();
    assert!(tls["text"].as_str().unwrap().starts_with("encrypted"), "{tls}");

    let stranger = file("other.pem", &Authority::named("another").pem());
    let answer = doctor(
        &server.url(),
        &["--ca-file", &stranger, "--client-cert-file", &cert, "--client-key-file", &key],
    )
    .await;
    assert_eq!((answer.code, &answer.error()["kind"]), (3, &"refused".into()), "{answer:?}");
    assert!(answer.err.contains("authority (CA)"), "{answer:?}");

    let answer = doctor(&server.url(), &["--ca-file", &ca, "--client-cert-file", &cert]).await;
    assert_eq!(answer.code, 2, "the key is missing: {answer:?}");
    let answer = doctor(&server.url(), &["--ca-file", "/nowhere/ca.pem"]).await;
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.err.contains("/nowhere/ca.pem"), "{answer:?}");
    let plain = format!("redis://127.0.0.1:{}", server.port);
    let answer = doctor(&plain, &[]).await;
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.err.contains("rediss://"), "{answer:?}");
}
