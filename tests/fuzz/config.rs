//! Configuration: files, variables, and what is printed of them.

use std::io::Write as _;

use super::engine::Fuzz;
use crate::config::{self, ConfigError, Options};

/// What stands for a secret. It may be printed by nobody.
const SECRET: &str = "xK9-do-not-print-me-Zq7";

fn load_text(text: &str, env: Vec<(String, String)>) -> Result<config::Loaded, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("it can be written");
    config::load(Options { file: Some(file.path().to_owned()), env, ..Options::default() })
}

/// What is printed, as a file again: with some secrets in the place of those that were left out.
fn put_back(print: &str) -> String {
    print.replace("<redacted>", "put-back")
}

/// What is in force, without where it came from.
fn printed(loaded: &config::Loaded) -> Vec<String> {
    loaded.to_toml().lines().map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// Whether every secret still stands where it is known for one: behind its own key, and in no longer text.
fn is_in_its_place(text: &str) -> bool {
    let places = ["\nsecret = \"", "\nurl = \"postgres://ada:", "headers = { \"X-Token\" = \"", "\nurl = \"https://ada:"];
    let behind = text.match_indices(SECRET).all(|(at, _)| places.iter().any(|place| text[..at].ends_with(place)));
    behind && !text.contains("'''") && !text.contains("\"\"\"")
}

fn kind(error: &ConfigError) -> String {
    let text = format!("{error:?}");
    let word = |after: &str| text.split(after).nth(1).unwrap_or_default().split([' ', '(', '{', ',']).next().unwrap_or_default().to_owned();
    format!("{} {}", text.split([' ', '(']).next().unwrap_or_default(), word("reason: "))
}

fn files() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let shipped =
        ["config/holdline.toml", "config/production.toml"].map(|path| std::fs::read_to_string(format!("{root}/{path}")).expect(path));
    let app = format!("[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"{SECRET}\"\n");
    let small = [
        app.clone(),
        format!(
            "[server]\nport = 7001\nhost = \"::\"\npath_prefix = \"/ws\"\nping_interval = \"1m 30s\"\nmax_message_size = \"1MiB\"\n{app}"
        ),
        format!(
            "{app}allowed_origins = [\"*.shop.example\", \"https://a\"]\nhandshake_auth = \"required\"\n[apps.limits]\nmax_batch = 3\n"
        ),
        format!(
            "{app}[[apps.holds]]\nchannel = \"private-o.{{id}}\"\nresource = \"o:{{id}}\"\nevent = \"O\"\ncontext = {{ t = \"{{token.t}}\" }}\n"
        ),
        format!(
            "{app}[[apps.webhooks]]\nurl = \"https://ada:{SECRET}@shop.example/h\"\nheaders = {{ \"X-Token\" = \"{SECRET}\" }}\nbatch = true\n"
        ),
        format!(
            "{app}[[listeners]]\nname = \"shop\"\nkind = \"http\"\nurl = \"https://ada:{SECRET}@shop.example/h\"\nheaders = {{ \"X-Token\" = \"{SECRET}\" }}\n"
        ),
        format!(
            "[store]\nurl = \"postgres://ada:{SECRET}@db.example/x?sslmode=require\"\nlease = \"12s\"\n[log]\nlevel = \"info,x=debug\"\n{app}"
        ),
        "[heartbeat]\nraw_pairs = [[\"~H#C~\", \"~H#S~\"]]\n[drain]\ngrace = \"0s\"\n".to_owned(),
    ];
    shipped.into_iter().chain(small).collect()
}

const WORDS: [&str; 22] = [
    "[[apps]]\n",
    "[apps.limits]\n",
    "[server]\n",
    "[[apps.holds]]\n",
    "[[apps.webhooks]]\n",
    "[[listeners]]\n",
    "= ",
    "\"\"\"",
    "'''",
    "#",
    "\n",
    "0s",
    "99999h",
    "16GiB",
    "1.5",
    "inf",
    "nan",
    "0x7f",
    "1979-05-27T07:32:00Z",
    "[[",
    "\"http://[::1\"",
    "kind = \"http\"\n",
];

#[test]
fn a_file_is_taken_as_it_is_printed() {
    Fuzz::new("config").seeds(files()).tokens(&WORDS).run(1_000, |input| {
        let text = String::from_utf8_lossy(input);
        let loaded = match load_text(&text, Vec::new()) {
            Ok(loaded) => loaded,
            Err(error) => {
                let shown = error.to_string();
                assert!(!shown.contains(SECRET) || !is_in_its_place(&text), "{shown}");
                return kind(&error);
            }
        };
        let print = loaded.to_toml();
        assert!(!print.contains(SECRET) || !is_in_its_place(&text), "{print}");
        assert!(!format!("{loaded:?}").contains(SECRET) || !is_in_its_place(&text), "Debug");
        let again =
            load_text(&put_back(&print), Vec::new()).unwrap_or_else(|error| panic!("what is printed is not taken: {error}\n{print}"));
        assert_eq!(printed(&again), printed(&loaded));
        format!("{} {}", loaded.settings.apps.len().min(3), loaded.settings.listeners.len().min(2))
    });
}

#[test]
fn an_environment_is_taken_or_refused_without_its_values() {
    let seeds = [
        "HOLDLINE_SERVER__PORT=7001\nHOLDLINE_APP__ID=1\nHOLDLINE_APP__KEY=k\nHOLDLINE_APP__SECRET=s".to_owned(),
        "PUSHER_APP_ID=1\nPUSHER_APP_KEY=k\nPUSHER_APP_SECRET=s\nPORT=80\nDATABASE_URL=postgres://ada:pw@h/d".to_owned(),
        "SOKETI_DEFAULT_APP_ID=1\nSOKETI_DEFAULT_APP_KEY=k\nSOKETI_DEFAULT_APP_SECRET=s\nSOKETI_DEFAULT_APP_WEBHOOKS=[{\"url\":\"http://h/x\",\"event_types\":[\"client_event\"]}]"
            .to_owned(),
        format!("HOLDLINE_APPS=[{{\"id\":\"1\",\"key\":\"k\",\"secret\":\"{SECRET}\"}}]"),
        format!("HOLDLINE_APPS=[{{id = \"1\", key = \"k\", secret = \"{SECRET}\", limits = {{ max_batch = 3 }}}}]"),
        "HOLDLINE_STORE__URL=none\nHOLDLINE_LOG__LEVEL=debug\nHOLDLINE_SERVER__TCP_USER_TIMEOUT=5s\nHOLDLINE_SERVICE_HOST=x".to_owned(),
        "HOLDLINE_HEARTBEAT__RAW_PAIRS=[[\"a\",\"b\"]]\nHOLDLINE_LISTENERS=[{\"name\":\"o\",\"kind\":\"broadcast\",\"channel\":\"o\"}]".to_owned(),
        "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\nREVERB_SERVER_PORT=1".to_owned(),
    ];
    let words =
        ["HOLDLINE_", "__", "=", "\n", "SOKETI_", "PUSHER_", "[{", "}]", "\":\"", "\\u0000", "APP__LIMITS__MAX_BATCH", "postgres://"];
    Fuzz::new("environment").seeds(seeds).tokens(&words).run(2_000, |input| {
        let text = String::from_utf8_lossy(input);
        // A file that is named would be read.
        let pairs = text.lines().take(30).filter_map(|line| line.split_once('=')).filter(|(name, _)| *name != "HOLDLINE_CONFIG");
        let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match config::load(Options { env, ..Options::default() }) {
            Ok(loaded) => {
                let again =
                    load_text(&put_back(&loaded.to_toml()), Vec::new()).unwrap_or_else(|error| panic!("{error}\n{}", loaded.to_toml()));
                assert_eq!(printed(&again), printed(&loaded));
                "taken".to_owned()
            }
            Err(error) => {
                let is_in_its_place = |line: &str| {
                    let keys = ["secret\":\"", "secret = \""];
                    let behind = line.match_indices(SECRET).all(|(at, _)| keys.iter().any(|key| line[..at].ends_with(key)));
                    !line.contains(SECRET) || behind && line.starts_with("HOLDLINE_APPS=") && !line.contains('\'')
                };
                let in_place = text.lines().all(is_in_its_place);
                assert!(!error.to_string().contains(SECRET) || !in_place, "{error}");
                kind(&error)
            }
        }
    });
}
