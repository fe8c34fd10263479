//! "Did you mean …?"

/// Longest edit distance that still counts as a slip, as a part of the length of what was written.
const SLIP: usize = 3;

/// The candidate that somebody who wrote `given` most likely meant, if there is one.
pub(super) fn nearest(given: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let last = last_part(given);
    candidates
        .into_iter()
        .map(|candidate| {
            // `port` at the top, or under the wrong section, means `server.port`.
            let distance = if last_part(&candidate) == last { 1 } else { strsim::damerau_levenshtein(given, &candidate) };
            (distance, candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (given.len() / SLIP).max(1))
        .map(|(_, candidate)| candidate)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(given: &str) -> Option<String> {
        nearest(given, ["server.host", "server.port", "log.level", "server", "log"].map(str::to_owned))
    }

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        assert_eq!(among("server.prot").as_deref(), Some("server.port"));
        assert_eq!(among("sever").as_deref(), Some("server"));
    }

    #[test]
    fn a_key_under_the_wrong_section_is_found() {
        assert_eq!(among("port").as_deref(), Some("server.port"));
        assert_eq!(among("server.level").as_deref(), Some("log.level"));
    }

    #[test]
    fn nonsense_gets_no_suggestion() {
        assert_eq!(among("frobnicate"), None);
    }
}
