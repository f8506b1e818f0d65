use std::time::Duration;

use super::*;

fn key(n: usize) -> Key {
    Key::encode(&n).unwrap()
}

#[test]
fn a_key_asked_for_again_meanwhile_stays() {
    let all = UnsentChanges::new(1);
    let unsent = all.of(0);
    unsent.add(&key(1));
    unsent.add(&key(2));
    let work = unsent.next().unwrap();
    unsent.add(&key(1));
    unsent.landed(&work);
    assert!(unsent.covers(key(1).as_bytes()));
    assert!(!unsent.covers(key(2).as_bytes()));
    assert_eq!(all.len(), 1);
}

fn tags(tags: &[&str]) -> Tags {
    Tags::new(tags).unwrap()
}

fn entry(tagged: &[&str], generation: u64) -> Entry<()> {
    let token = crate::backend::Token::from_bytes([0; 16]);
    let tags = tags(tagged);
    let forever = crate::backend::Tick::MAX;
    let life = crate::backend::Expiry::new(forever, forever, Duration::MAX, Duration::ZERO);
    Entry { value: None, life, generation, seq: 1, token, tags }
}

#[test]
fn too_many_changes_become_a_clear_and_none_is_forgotten() {
    let all = UnsentChanges::new(1);
    let unsent = all.of(0);
    unsent.add_tags(&[tags(&["t"])], || 7);
    for n in 0..=MOST {
        unsent.add(&key(n));
    }
    assert_eq!(all.len(), 1);
    assert!(unsent.covers(b"anything"));
    assert!(unsent.voids(&entry(&["t"], 6)), "what the tag voided, the clear does");
    assert!(!unsent.voids(&entry(&["t"], 7)));
    let work = unsent.next().unwrap();
    assert!(matches!(work, Work::Clear(_)));
    unsent.landed(&work);
    assert_eq!(all.len(), 0);
}

#[test]
fn too_many_tags_become_a_clear_from_the_first_moment() {
    let all = UnsentChanges::new(64);
    let unsent = all.of(0);
    let many: Vec<Tags> = (0..64).map(|n| tags(&[&format!("t{n}")])).collect();
    for n in 0..64 {
        unsent.add_tags(&many, || n);
    }
    assert_eq!(all.len(), 64, "the same tags again");
    let more: Vec<Tags> = (0..TAGS / 64).map(|n| tags(&[&format!("more {n}")])).collect();
    unsent.add_tags(&more, || {
        assert_eq!(all.len(), 1, "the clear is pending before the generation moves");
        100
    });
    assert!(unsent.voids(&entry(&["x"], 99)) && !unsent.voids(&entry(&["x"], 100)));
    assert!(unsent.voids_read(&tags(&["x"])) && unsent.covers(b"anything"));
}

#[test]
fn a_tag_voids_what_was_read_before_it() {
    let all = UnsentChanges::new(1);
    let unsent = all.of(0);
    assert!(!unsent.voids(&entry(&["t"], 0)));
    unsent.add_tags(&[tags(&["t", "u"])], || 3);
    assert!(unsent.voids(&entry(&["x", "t"], 2)));
    assert!(!unsent.voids(&entry(&["t"], 3)), "read since");
    assert!(!unsent.voids(&entry(&["x"], 2)) && !unsent.voids(&entry(&[], 2)));
    assert!(unsent.voids_read(&tags(&["x", "u"])) && !unsent.voids_read(&tags(&["x"])));
    unsent.add_clear();
    assert!(unsent.voids_read(&tags(&["t"])), "the clear has taken the place of the tag");
    assert!(unsent.voids(&entry(&["t"], 2)) && !unsent.voids(&entry(&["t"], 3)));
}

/// From the moment at which a tag is noted until the generation rises, it voids everything.
#[test]
fn nothing_slips_in_while_a_tag_becomes_pending() {
    let all = UnsentChanges::new(1);
    let unsent = all.of(0);
    unsent.add_tags(&[tags(&["t"])], || {
        assert_eq!(all.len(), 1, "it is pending before the generation moves");
        2
    });
    assert!(unsent.voids_read(&tags(&["t"])));
}

#[test]
fn changes_are_replayed_in_order_the_newest_of_each() {
    let all = UnsentChanges::new(1);
    let unsent = all.of(0);
    unsent.add(&key(1));
    unsent.add(&key(2));
    unsent.add_tags(&[tags(&["t"])], || 1);
    unsent.add(&key(3));
    unsent.add(&key(1));
    unsent.add_tags(&[tags(&["u"])], || 2);
    let mut order = Vec::new();
    while let Some(work) = unsent.next() {
        match &work {
            Work::Keys(keys) => order.extend(keys.iter().map(|(key, _)| format!("{key:?}"))),
            Work::Tags(tags) => order.extend(tags.iter().map(|(tag, _)| tag.escape_ascii().to_string())),
            Work::Clear(_) => order.push("clear".to_owned()),
        }
        unsent.landed(&work);
    }
    assert_eq!(order, ["Key(2)", "t", "Key(3)", "Key(1)", "u"]);
}
