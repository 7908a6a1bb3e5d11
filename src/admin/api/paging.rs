//! Pages of what many shards have: where one ends, and how the next one is asked for.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::config::{ADMIN_CLIENTS_PER_QUESTION, ADMIN_PAGE, ADMIN_PAGE_DEFAULT, ADMIN_QUESTIONS_PER_PAGE};
use crate::io::{Asked, Doors};
use crate::route::ShardId;

use super::super::asking::answer;

/// A place among what all shards have, as the client of the API has it: `SHARD.PLACE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cursor {
    shard: u16,
    place: u32,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.shard, self.place)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, place) = text.split_once('.').ok_or(())?;
        Ok(Self { shard: shard.parse().map_err(drop)?, place: place.parse().map_err(drop)? })
    }
}

/// What is wanted of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    limit: usize,
    after: Cursor,
    /// By the names that the route has for it.
    others: BTreeMap<&'static str, Box<str>>,
}

impl Wanted {
    /// The query of a request, in which there may be `limit`, `after` and these.
    pub(super) fn parse(query: Option<&str>, names: &[&'static str]) -> Result<Self, String> {
        let mut wanted = Self { limit: ADMIN_PAGE_DEFAULT, after: Cursor::default(), others: BTreeMap::new() };
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| ADMIN_PAGE.contains(limit));
                    let allowed = || format!("limit is a number from {} to {}", ADMIN_PAGE.start(), ADMIN_PAGE.end());
                    wanted.limit = limit.ok_or_else(allowed)?;
                }
                "after" => wanted.after = value.parse().map_err(|()| "after is what an answer gave as next")?,
                other => match names.iter().find(|name| **name == other) {
                    Some(name) => drop(wanted.others.insert(name, value.into())),
                    None => return Err(format!("{other:?} is not limit, after or {}", names.join(" or "))),
                },
            }
        }
        Ok(wanted)
    }

    /// What was said under this name.
    pub(super) fn take(&mut self, name: &str) -> Option<Box<str>> {
        self.others.remove(name)
    }
}

/// What is wanted, and where to go on. `ask` asks a shard for so many from a place on, and `open` finds in its answer what there
/// is, and where it goes on. So many shards are asked, and no more often than [`ADMIN_QUESTIONS_PER_PAGE`]: a page may be short though others follow. An error
/// is a shard that does not answer.
pub(super) async fn collect<A, T>(
    doors: &Doors,
    wanted: &Wanted,
    ask: impl Fn(ShardId, u32, usize) -> Asked<A>,
    open: impl Fn(ShardId, A) -> (Vec<T>, Option<u32>),
) -> Result<(Vec<T>, Option<Cursor>), ShardId> {
    let mut cursor = wanted.after;
    let mut found = Vec::new();
    for _ in 0..ADMIN_QUESTIONS_PER_PAGE {
        let Some(shard) = ShardId::new(cursor.shard).filter(|_| cursor.shard < doors.shards()) else {
            return Ok((found, None));
        };
        if found.len() == wanted.limit {
            break;
        }
        let max = (wanted.limit - found.len()).min(ADMIN_CLIENTS_PER_QUESTION);
        let (more, next) = open(shard, answer(ask(shard, cursor.place, max)).await.ok_or(shard)?);
        found.extend(more);
        cursor = match next {
            Some(place) => Cursor { place, ..cursor },
            None => Cursor { shard: cursor.shard + 1, place: 0 },
        };
    }
    Ok((found, (cursor.shard < doors.shards()).then_some(cursor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_in_words() {
        let wanted = |limit, shard, place, others: &[(&'static str, &str)]| {
            let others = others.iter().map(|(name, value)| (*name, (*value).into())).collect();
            Ok(Wanted { limit, after: Cursor { shard, place }, others })
        };
        let parse = |query| Wanted::parse(Some(query), &["q", "state"]);
        assert_eq!(Wanted::parse(None, &[]), wanted(ADMIN_PAGE_DEFAULT, 0, 0, &[]));
        assert_eq!(parse("limit=7&after=3.4096&q=a%2Fb+c"), wanted(7, 3, 4096, &[("q", "a/b c")]));
        for (query, part) in [
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("after=3", "an answer gave"),
            ("after=3.-1", "an answer gave"),
            ("page=3", "\"page\" is not limit, after or q or state"),
        ] {
            let refused = parse(query).expect_err("refused");
            assert!(refused.contains(part), "{query}: {refused}");
        }
    }
}
