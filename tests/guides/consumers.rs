//! What reads each kind of block in earnest.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// A fragment of a configuration as a whole one: tables of an application need an application around them.
pub(crate) fn whole(text: &str) -> String {
    let part_of_an_app = text.lines().any(|line| line.starts_with("[[apps.") || line.starts_with("[apps."));
    let has_apps = text.lines().any(|line| line.trim_end() == "[[apps]]");
    if part_of_an_app && !has_apps {
        return format!("[[apps]]\nid = \"app-id\"\nkey = \"app-key\"\nsecret = \"a secret of this test\"\n{text}");
    }
    text.to_owned()
}

/// Commands that are not run here, such as `tests/run`, which runs this test: they are there, and can be started.
pub(crate) fn exists(text: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let word = line.split_whitespace().next().ok_or("an empty line")?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
        let mode = fs::metadata(&path).map_err(|error| format!("{word}: {error}"))?.permissions().mode();
        if mode & 0o111 == 0 {
            return Err(format!("{word} cannot be started"));
        }
    }
    Ok(())
}

fn succeeded(name: &str, output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    if output.status.success() { Ok(stdout) } else { Err(format!("{name} says: {stdout}{stderr}")) }
}

/// `nginx -t`, with a certificate in place of the one that the text names.
pub(crate) fn nginx(home: &Path, text: &str) -> Result<(), String> {
    let (certificate, key) = (home.join("nginx.pem"), home.join("nginx.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=shop.example"]);
    succeeded("openssl", openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output())?;
    let text = text.lines().map(|line| match line.split_whitespace().next() {
        Some("ssl_certificate") => format!("ssl_certificate {};", certificate.display()),
        Some("ssl_certificate_key") => format!("ssl_certificate_key {};", key.display()),
        _ => line.to_owned(),
    });
    let text: Vec<String> = text.collect();
    let file = home.join("nginx.conf");
    let directory = home.display();
    let whole = format!(
        "pid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {directory};\n\
         proxy_temp_path {directory};\nfastcgi_temp_path {directory};\nuwsgi_temp_path {directory};\nscgi_temp_path {directory};\n{}\n}}\n",
        text.join("\n")
    );
    fs::write(&file, whole).map_err(|error| error.to_string())?;
    succeeded("nginx", Command::new("/usr/sbin/nginx").arg("-t").arg("-c").arg(&file).output()).map(drop)
}

/// A configuration of Prometheus.
pub(crate) fn prometheus(home: &Path, text: &str) -> Result<(), String> {
    let file = home.join("prometheus.yml");
    fs::write(&file, text).map_err(|error| error.to_string())?;
    let said = succeeded("promtool", Command::new("promtool").args(["check", "config"]).arg(&file).current_dir(home).output())?;
    if text.contains("scrape_configs") { Ok(()) } else { Err(format!("nothing is scraped by this: {said}")) }
}

/// A part of a Cargo.toml: cargo reads it, and finds holdline where it says.
pub(crate) fn cargo(home: &Path, text: &str) -> Result<(), String> {
    let place = home.join("crate");
    fs::create_dir_all(place.join("src")).map_err(|error| error.to_string())?;
    let text = text.replace("\"../holdline\"", &format!("{:?}", env!("CARGO_MANIFEST_DIR")));
    let manifest = format!("[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{text}");
    fs::write(place.join("Cargo.toml"), manifest).map_err(|error| error.to_string())?;
    fs::write(place.join("src/main.rs"), "fn main() {}").map_err(|error| error.to_string())?;
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), place.join("Cargo.lock")).map_err(|error| error.to_string())?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--format-version", "1"]).current_dir(&place);
    succeeded("cargo", cargo.output()).map(drop)
}

/// `NAME=value`, with `${NAME}` of an earlier line, as dotenv reads it.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("no variable: {line}"))?;
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        let value = match value.strip_prefix("${").and_then(|value| value.strip_suffix('}')) {
            Some(other) => {
                pairs.iter().find(|(name, _)| name == other).ok_or_else(|| format!("{name}: there is no {other} above"))?.1.clone()
            }
            None => value.to_owned(),
        };
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

/// What the broker is started with: each variable must be named by `config print` as where a value came from.
pub(crate) fn broker_variables(mut holdline: impl FnMut() -> Command, text: &str) -> Result<(), String> {
    let pairs = pairs(text)?;
    let mut command = holdline();
    command.env_remove("HOLDLINE_LOG__FORMAT").envs(pairs.iter().map(|(name, value)| (name, value))).args(["config", "print"]);
    let printed = succeeded("config print", command.output())?;
    let unused: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).filter(|name| !printed.contains(&format!("# {name}\n"))).collect();
    if unused.is_empty() { Ok(()) } else { Err(format!("{} set nothing:\n{printed}", unused.join(", "))) }
}

/// What an application is configured with: the broker at that address takes a publish with these credentials, and what the page is
/// built with is the same.
pub(crate) fn application_variables(mut holdline: impl FnMut() -> Command, text: &str) -> Result<(), String> {
    let mut pairs = pairs(text)?;
    let mut take = |name: &str| pairs.iter().position(|(known, _)| known == name).map(|at| pairs.remove(at).1);
    let driver = take("BROADCAST_CONNECTION").or_else(|| take("BROADCAST_DRIVER")).ok_or("no BROADCAST_CONNECTION")?;
    let prefix = match driver.as_str() {
        "pusher" => "PUSHER",
        "reverb" => "REVERB",
        other => return Err(format!("no broadcaster of Laravel's: {other}")),
    };
    let mut need = |name: &str| {
        let name = format!("{prefix}_{name}");
        let value = take(&name).ok_or_else(|| format!("no {name}"))?;
        match take(&format!("VITE_{name}")) {
            Some(of_the_page) if of_the_page != value => Err(format!("VITE_{name} is {of_the_page}, {name} is {value}")),
            _ => Ok(value),
        }
    };
    let [id, key, secret] = [need("APP_ID")?, need("APP_KEY")?, need("APP_SECRET")?];
    let [host, port, scheme] = [need("HOST")?, need("PORT")?, need("SCHEME")?];
    take("PUSHER_APP_CLUSTER");
    take("VITE_PUSHER_APP_CLUSTER");
    if let Some((name, _)) = pairs.first() {
        return Err(format!("nobody reads {name}"));
    }
    let mut publish = holdline();
    publish.args(["publish", "orders", "OrderShipped", "{}", "--url", &format!("{scheme}://{host}:{port}")]);
    publish.args(["--app-id", &id, "--key", &key, "--secret", &secret]);
    succeeded("the broker at that address", publish.output()).map(drop)
}
