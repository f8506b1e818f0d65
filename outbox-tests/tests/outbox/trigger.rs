//! Triggers made by the library: a writer that knows nothing of the outbox changes rows with plain SQL.

use std::sync::Arc;
use std::time::Duration;

use async_cache::key::Key;
use async_cache::testing::until;
use async_cache::{MemoryBackend, TieredCache};
use async_cache_outbox::{Error, Outbox, Trigger, Wake};
use integration_tests::fleet::Cache;
use outbox_tests::postgres::PostgresServer;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};
use sqlx::{MySql, Postgres, Sqlite};

const USERS: &str =
    "CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR(100), team_id BIGINT, version BIGINT)";

/// A table `users` with triggers for the namespace `rows`.
async fn users<DB: TestDatabase>() -> (Scene<DB>, Trigger<DB>) {
    let scene = Scene::<DB>::new().await;
    scene.run(USERS).await;
    let trigger = scene.outbox.trigger("users").namespace("rows").key_column("id").tag("team:", "team_id");
    let trigger = trigger.build().unwrap();
    (scene, trigger)
}

/// Stores `1` to `4`, each with a tag of its own. The tag of `4` is `team:9`.
async fn fill(cache: &Cache) {
    for (key, tag) in [("1", "a"), ("2", "b"), ("3", "c"), ("4", "team:9")] {
        cache.insert(key, 0).tag(tag).await.unwrap();
    }
}

async fn cached(cache: &Cache) -> Vec<&'static str> {
    let mut there = Vec::new();
    for key in ["1", "2", "3", "4"] {
        if cache.contains(key).await.unwrap() {
            there.push(key);
        }
    }
    there
}

/// Runs a change, and waits until these keys alone are cached.
async fn leaves<DB: TestDatabase>(scene: &Scene<DB>, nodes: &[Cache; 2], change: &str, left: &[&str]) {
    fill(&nodes[0]).await;
    scene.run(change).await;
    scene.drained().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    for node in nodes {
        while cached(node).await.len() > left.len() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(cached(node).await, left, "{change}");
    }
}

async fn every_change_by_plain_sql_is_invalidated<DB: TestDatabase>() {
    let ((scene, trigger), (_l2, nodes)) = (users::<DB>().await, two_nodes().await);
    trigger.install(&scene.pool).await.unwrap();
    let _relay = scene.relay(&nodes[1]).await;
    scene.drained().await;
    leaves(&scene, &nodes, "INSERT INTO users VALUES (1, 'Ada', NULL, 0)", &["2", "3", "4"]).await;
    leaves(&scene, &nodes, "UPDATE users SET version = 1 WHERE id = 1", &["2", "3", "4"]).await;
    // The old and the new key.
    leaves(&scene, &nodes, "UPDATE users SET id = 2 WHERE id = 1", &["3", "4"]).await;
    // The new tag, then the old one.
    leaves(&scene, &nodes, "UPDATE users SET team_id = 9", &["1", "3"]).await;
    leaves(&scene, &nodes, "UPDATE users SET team_id = 8", &["1", "3"]).await;
    leaves(&scene, &nodes, "DELETE FROM users", &["1", "3", "4"]).await;
    leaves(&scene, &nodes, "INSERT INTO users VALUES (3, NULL, 9, 0), (1, '', NULL, 0)", &["2"]).await;
}

async fn a_change_that_is_rolled_back_fires_nothing<DB: TestDatabase>() {
    let ((scene, trigger), (_l2, nodes)) = (users::<DB>().await, two_nodes().await);
    trigger.install(&scene.pool).await.unwrap();
    let _relay = scene.relay(&nodes[1]).await;
    scene.drained().await;
    fill(&nodes[0]).await;
    let mut tx = scene.begin().await;
    DB::run(&mut tx, "INSERT INTO users VALUES (1, 'Ada', 9, 0)".to_owned()).await.unwrap();
    tx.rollback().await.unwrap();
    leaves(&scene, &nodes, "INSERT INTO users VALUES (2, 'Ada', NULL, 0)", &["1", "3", "4"]).await;
}

async fn one_change_writes_each_invalidation_once<DB: TestDatabase>() {
    let (scene, trigger) = users::<DB>().await;
    scene.run(&trigger.create_sql()).await;
    scene.run("INSERT INTO users VALUES (1, 'Ada', 9, 0)").await;
    assert_eq!(scene.rows().await, 2, "the key and the tag");
    scene.run("UPDATE users SET version = 1").await;
    assert_eq!(scene.rows().await, 4, "the key and the tag, although there are an old and a new row");
    scene.run("UPDATE users SET team_id = 8").await;
    assert_eq!(scene.rows().await, 7, "the key and both tags");
}

/// PostgreSQL refuses to prepare a transaction that has notified somebody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_two_phase_commit_is_invalidated_when_the_relay_polls() {
    let server = Arc::new(PostgresServer::start_with(&["max_prepared_transactions=5"]));
    let (scene, (_l2, nodes)) = (Scene::<Postgres>::on(server).await, two_nodes().await);
    scene.run(USERS).await;
    let trigger = |wake| {
        let trigger =
            Outbox::<Postgres>::new().wake(wake).trigger("users").namespace("rows").key_column("id");
        trigger.build().unwrap()
    };
    let change = "BEGIN; INSERT INTO users VALUES (1, 'Ada', NULL, 0); PREPARE TRANSACTION 'first'";
    trigger(Wake::Notify).install(&scene.pool).await.unwrap();
    let mut writer = scene.pool.acquire().await.unwrap().detach();
    let refused = sqlx::raw_sql(change).execute(&mut writer).await.unwrap_err().to_string();
    assert!(refused.contains("cannot PREPARE a transaction that has executed"), "{refused}");
    drop(writer);
    trigger(Wake::Poll).install(&scene.pool).await.unwrap();
    let _relay = scene.relay(&nodes[1]).await;
    fill(&nodes[0]).await;
    scene.run(change).await;
    leaves(&scene, &nodes, "INSERT INTO users VALUES (2, 'Eve', NULL, 0)", &["1", "3", "4"]).await;
    leaves(&scene, &nodes, "COMMIT PREPARED 'first'", &["2", "3", "4"]).await;
}

async fn the_statements_install_and_remove_the_triggers<DB: TestDatabase>() {
    let (scene, trigger) = users::<DB>().await;
    scene.run(&trigger.create_sql()).await;
    scene.run("INSERT INTO users VALUES (1, 'Ada', NULL, 0)").await;
    assert_eq!(scene.rows().await, 1);
    for _ in 0..2 {
        scene.run(&trigger.remove_sql()).await;
        scene.run("UPDATE users SET version = version + 1").await;
        assert_eq!(scene.rows().await, 1, "nothing is written any more");
    }
    for _ in 0..2 {
        trigger.install(&scene.pool).await.unwrap();
    }
    scene.run("DELETE FROM async_cache_outbox").await;
    scene.run("UPDATE users SET version = version + 1").await;
    assert_eq!(scene.rows().await, 1, "a second install replaces the first");
    trigger.remove(&scene.pool).await.unwrap();
    scene.run("UPDATE users SET version = version + 1").await;
    assert_eq!(scene.rows().await, 1);
}

/// Texts that a careless encoding would change.
const TEXTS: &[&str] = &[
    "",
    "Ada",
    "ada",
    "ada ",
    "a:b",
    "a\\b",
    "\\:",
    "ünï 日本 🦀",
    "quote's \"and\" `tick`",
    "%s $do$ %1$s",
];

async fn a_text_key_is_encoded_as_the_cache_does<DB: TestDatabase>() {
    let scene = Scene::<DB>::new().await;
    let names = match std::any::type_name::<DB>().contains("MySql") {
        true => "name VARCHAR(600) CHARACTER SET utf8mb4 NOT NULL",
        false => "name VARCHAR(600) NOT NULL",
    };
    scene.run(&format!("CREATE TABLE people (no INT PRIMARY KEY, {names})")).await;
    let (alone, pair) = (cache::<String>("alone"), cache::<(i64, String)>("p'a:ir\\ü"));
    let by_name = scene.outbox.trigger("people").namespace(&alone).key_column("name");
    by_name.build().unwrap().install(&scene.pool).await.unwrap();
    let by_both = scene.outbox.trigger("people").namespace(&pair).key_column("no").key_column("name");
    let by_both = by_both.tag("it's:ü ", "name").build().unwrap();
    by_both.install(&scene.pool).await.unwrap();
    scene.run("DELETE FROM async_cache_outbox").await;
    for (no, text) in (0_i64..).zip(TEXTS) {
        alone.insert(*text, 0).await.unwrap();
        pair.insert(&(no, *text), 0).await.unwrap();
        pair.insert(&(-1 - no, ""), 0).tag(format!("it's:ü {text}")).await.unwrap();
    }
    let relay = scene.outbox.relay(&scene.pool).cache(&alone).cache(&pair).start().unwrap();
    for (no, text) in (0_i64..).zip(TEXTS) {
        insert(&scene, "people", no, text).await;
        scene.drained().await;
        assert!(!alone.contains(*text).await.unwrap(), "{text:?}");
        assert!(!pair.contains(&(no, *text)).await.unwrap(), "{text:?} in a tuple");
        assert!(!pair.contains(&(-1 - no, "")).await.unwrap(), "{text:?} in a tag");
        for later in &TEXTS[no as usize + 1..] {
            assert!(alone.contains(*later).await.unwrap(), "{later:?} was invalidated by {text:?}");
        }
    }
    assert_eq!(relay.stats().unreadable + relay.stats().unknown, 0);
}

fn cache<K: async_cache::CacheKey>(namespace: &str) -> TieredCache<K, u64> {
    let builder = TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(1_000));
    builder.l2(MemoryBackend::new(1_000)).build().expect("a valid cache")
}

/// Inserts a row, the text in hexadecimal.
async fn insert<DB: TestDatabase>(scene: &Scene<DB>, table: &str, no: i64, text: &str) {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let text = match std::any::type_name::<DB>() {
        name if name.contains("MySql") => format!("CONVERT(x'{hex}' USING utf8mb4)"),
        name if name.contains("Sqlite") => format!("CAST(x'{hex}' AS TEXT)"),
        _ => format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
    };
    scene.run(&format!("INSERT INTO {table} VALUES ({no}, {text})")).await;
}

async fn what_no_cache_can_hold_is_left_out_and_fails_no_transaction<DB: TestDatabase>() {
    let scene = Scene::<DB>::new().await;
    scene.run("CREATE TABLE notes (no INT PRIMARY KEY, body TEXT)").await;
    let trigger = scene.outbox.trigger("notes").namespace("rows").key_column("body").tag("", "body");
    trigger.build().unwrap().install(&scene.pool).await.unwrap();
    scene.run("DELETE FROM async_cache_outbox").await;
    scene.run("INSERT INTO notes VALUES (0, NULL)").await;
    insert(&scene, "notes", 1, &"x".repeat(1_025)).await;
    insert(&scene, "notes", 2, &"x".repeat(60_000)).await;
    assert_eq!(scene.rows().await, 0);
    insert(&scene, "notes", 3, &"x".repeat(1_024)).await;
    assert_eq!(scene.rows().await, 1, "the longest key, but no tag of that length");
    insert(&scene, "notes", 4, &"ü".repeat(64)).await;
    assert_eq!(scene.rows().await, 3, "the longest tag");
    insert(&scene, "notes", 5, "").await;
    assert_eq!(scene.rows().await, 4, "the empty key, but no empty tag");
}

async fn a_table_or_column_that_cannot_be_watched_is_refused<DB: TestDatabase>() {
    let scene = Scene::<DB>::new().await;
    scene.run("CREATE TABLE odd (id BIGINT, price REAL, t INT)").await;
    let wrong = async |table: &str, column: &str| {
        let trigger = scene.outbox.trigger(table).namespace("rows").key_column(column).build().unwrap();
        match trigger.install(&scene.pool).await {
            Err(Error::Config(said)) => said,
            other => panic!("{other:?}"),
        }
    };
    assert!(wrong("nowhere", "id").await.contains("there is no table `nowhere`"));
    assert!(wrong("odd", "idd").await.contains("the table has no column `idd`"));
    let said = wrong("odd", "price").await;
    assert!(said.contains("`price` has the type `") && said.contains("by hand"), "{said}");
    // The statements alone say so, too.
    for (table, column) in [("nowhere", "id"), ("odd", "idd")] {
        let trigger = scene.outbox.trigger(table).namespace("rows").key_column(column).build().unwrap();
        let mut connection = scene.pool.acquire().await.unwrap();
        assert!(DB::run(&mut connection, trigger.create_sql()).await.is_err(), "{table}.{column}");
    }
    scene.run("INSERT INTO odd VALUES (1, 2, 3)").await;
    assert_eq!(scene.rows().await, 0);
}

outbox_tests::on_every_database!(
    every_change_by_plain_sql_is_invalidated,
    a_change_that_is_rolled_back_fires_nothing,
    one_change_writes_each_invalidation_once,
    the_statements_install_and_remove_the_triggers,
    a_text_key_is_encoded_as_the_cache_does,
    what_no_cache_can_hold_is_left_out_and_fails_no_transaction,
    a_table_or_column_that_cannot_be_watched_is_refused,
);

#[test]
fn names_that_could_carry_sql_are_refused_with_the_remedy() {
    fn wrong<DB: TestDatabase>(
        set: impl FnOnce(Outbox<DB>) -> async_cache_outbox::TriggerBuilder<DB>,
    ) -> String {
        match set(Outbox::new()).build() {
            Err(error) => error.to_string(),
            Ok(trigger) => panic!("{trigger:?}"),
        }
    }
    for odd in ["", "a b", "a\"b", "a`b", "a;b", "a'b", "ü", "1a", &"t".repeat(64)] {
        let said = wrong::<Postgres>(|outbox| outbox.trigger(odd).namespace("rows").key_column("id"));
        assert!(said.contains("cannot be watched") && said.contains("by hand"), "{said}");
        let said = wrong::<MySql>(|outbox| outbox.trigger("t").namespace("rows").key_column(odd));
        assert!(said.contains("is a column that cannot be used") && said.contains("by hand"), "{said}");
        let said = wrong::<Sqlite>(|outbox| outbox.trigger("t").namespace("rows").tag("team:", odd));
        assert!(said.contains("is a column that cannot be used"), "{said}");
        let said =
            wrong::<Postgres>(|outbox| outbox.trigger("t").namespace("rows").key_column("id").name(odd));
        assert!(said.contains("cannot name them") && said.contains(".name(..)"), "{said}");
    }
    let said = wrong::<Postgres>(|outbox| outbox.trigger("t").key_column("id"));
    assert!(said.contains(".namespace(&cache)"), "{said}");
    let said = wrong::<Postgres>(|outbox| outbox.trigger("t").namespace("rows"));
    assert!(said.contains("add `.key_column(..)`"), "{said}");
    let long = "t".repeat(60);
    let said = wrong::<Postgres>(|outbox| outbox.trigger(&long).namespace("rows").key_column("id"));
    assert!(said.contains("choose 1 to 48"), "{said}");
    let said = wrong::<Postgres>(|outbox| {
        outbox.trigger("t").namespace("rows").tag("x".repeat(129), "id").key_column("id")
    });
    assert!(said.contains("129 bytes"), "{said}");
    // Where the trigger would look for another outbox table.
    let said = wrong::<MySql>(|outbox| outbox.trigger("shop.users").namespace("rows").key_column("id"));
    assert!(said.contains("Outbox::in_table"), "{said}");
    let said = wrong::<Sqlite>(|outbox| outbox.trigger("shop.users").namespace("rows").key_column("id"));
    assert!(said.contains("its own schema only"), "{said}");
}

#[tokio::test]
async fn a_writer_without_rights_to_the_outbox_and_with_another_search_path_is_heard_on_postgres() {
    let ((scene, trigger), (_l2, [here, _])) = (users::<Postgres>().await, two_nodes().await);
    scene.run("INSERT INTO users VALUES (1, 'Ada', NULL, 0)").await;
    trigger.install(&scene.pool).await.unwrap();
    let relay = scene.relay(&here).await;
    here.insert("1", 0).await.unwrap();
    let user = format!("writer_{}", fastrand::u32(..));
    scene
        .run(&format!("CREATE ROLE {user}; GRANT SELECT, UPDATE ON users TO {user}; CREATE SCHEMA other"))
        .await;
    let mut tx = scene.begin().await;
    let change = format!(
        "SET LOCAL ROLE {user}; SET LOCAL search_path = other; CREATE TEMP TABLE async_cache_outbox (id INT); \
         UPDATE public.users SET version = 1"
    );
    Postgres::run(&mut tx, change).await.unwrap();
    tx.commit().await.unwrap();
    until("the change is applied", || relay.stats().applied == 1).await;
    assert!(!here.contains("1").await.unwrap());
}

#[tokio::test]
async fn a_truncate_invalidates_the_namespace_on_postgres() {
    let ((scene, trigger), (_l2, nodes)) = (users::<Postgres>().await, two_nodes().await);
    trigger.install(&scene.pool).await.unwrap();
    let _relay = scene.relay(&nodes[1]).await;
    leaves(&scene, &nodes, "TRUNCATE users", &[]).await;
}

#[tokio::test]
async fn postgres_types_whose_text_is_a_key_can_be_keys() {
    let scene = Scene::<Postgres>::new().await;
    scene
        .run(
            "CREATE TYPE colour AS ENUM ('red'); CREATE DOMAIN code AS TEXT; CREATE TABLE kinds (u UUID, b BOOLEAN, \
             e colour, d code, n NUMERIC(20, 0), x BYTEA, c CHAR(9), m NUMERIC)",
        )
        .await;
    let columns = ["u", "b", "e", "d", "n"];
    let trigger = columns
        .iter()
        .fold(scene.outbox.trigger("kinds").namespace("rows"), |trigger, column| trigger.key_column(*column));
    trigger.build().unwrap().install(&scene.pool).await.unwrap();
    for refused in ["x", "c", "m"] {
        let trigger = scene.outbox.trigger("kinds").namespace("rows").key_column(refused).build().unwrap();
        assert!(trigger.install(&scene.pool).await.is_err(), "{refused}");
    }
    scene
        .run(
            "INSERT INTO kinds VALUES ('67E55044-10B1-426F-9247-BB680E5FE0C8', TRUE, 'red', 'a:b', 18446744073709551615)",
        )
        .await;
    let data: Vec<u8> =
        sqlx::query_scalar("SELECT data FROM async_cache_outbox").fetch_one(&scene.pool).await.unwrap();
    let key = ("67e55044-10b1-426f-9247-bb680e5fe0c8", true, "red", "a:b", u64::MAX);
    assert_eq!(data, Key::encode(&key).unwrap().as_bytes());
}
