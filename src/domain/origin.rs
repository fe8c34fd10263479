//! Which pages may connect (protocol.md 1.7).

/// The origins an application accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    allowed: Vec<String>,
    strict: bool,
}

impl OriginPolicy {
    /// A list of origins: `https://shop.example:8443`, `shop.example` (any scheme, any port), `*.shop.example` (its
    /// subdomains), `*`. An empty list allows all. With `strict`, a client that names no origin is refused.
    pub fn new(allowed: impl IntoIterator<Item = String>, strict: bool) -> Self {
        let allowed = allowed.into_iter().map(|entry| entry.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { allowed, strict }
    }

    /// Whether a client with this `Origin` header may connect.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        if self.allowed.is_empty() || self.allowed.iter().any(|entry| entry == "*") {
            return true;
        }
        let Some(origin) = origin else { return !self.strict };
        let origin = origin.to_ascii_lowercase();
        let authority = origin.split_once("://").map_or(origin.as_str(), |(_, rest)| rest);
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        self.allowed.iter().any(|entry| match entry.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.')),
            None if entry.contains("://") => *entry == origin,
            None => entry == host || entry == authority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str], strict: bool) -> OriginPolicy {
        OriginPolicy::new(allowed.iter().map(|s| (*s).to_owned()), strict)
    }

    #[test]
    fn an_empty_list_and_a_star_allow_everybody() {
        assert!(policy(&[], true).allows(None));
        assert!(policy(&["*"], true).allows(Some("https://evil.example")));
    }

    #[test]
    fn forms_of_an_entry() {
        let shop = policy(&["shop.example", "*.cdn.example", "https://admin.example:8443"], false);
        for good in [
            "https://shop.example",
            "http://SHOP.example:8080",
            "https://a.cdn.example",
            "https://a.b.cdn.example:1",
            "https://admin.example:8443",
        ] {
            assert!(shop.allows(Some(good)), "{good}");
        }
        for bad in [
            "https://evil.example",
            "https://notshop.example",
            "https://shop.example.evil",
            "https://cdn.example",
            "https://xcdn.example",
            "https://admin.example",
            "http://admin.example:8443",
            "null",
            "",
        ] {
            assert!(!shop.allows(Some(bad)), "{bad}");
        }
    }

    #[test]
    fn native_clients_name_no_origin() {
        assert!(policy(&["shop.example"], false).allows(None));
        assert!(!policy(&["shop.example"], true).allows(None));
    }
}
