#!/usr/bin/env bash
# Real clients against the real binary: installs what they need, runs every suite, prints the time of each, fails if any failed.
#   HOLDLINE_BIN=target/debug/holdline tests/clients/run.sh [suite…]       a suite is a name without .test.mjs, or "python"
set -uo pipefail

HOLDLINE_BIN=$(realpath "${HOLDLINE_BIN:-$(dirname "$0")/../../target/debug/holdline}")
export HOLDLINE_BIN
cd "$(dirname "$0")" || exit 1

[ -x "$HOLDLINE_BIN" ] || { echo "no binary at $HOLDLINE_BIN: cargo build first, or set HOLDLINE_BIN" >&2; exit 1; }
for tool in node npm php python3 openssl curl /usr/sbin/nginx /usr/bin/chromium; do
  command -v "$tool" > /dev/null || { echo "$tool is needed and missing" >&2; exit 1; }
done
ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || { echo "PostgreSQL is needed and missing" >&2; exit 1; }
for part in Routing Database Events; do
  [ -e "/usr/share/php/Illuminate/$part/autoload.php" ] || { echo "php-illuminate-${part,,} is needed and missing" >&2; exit 1; }
done

# Runs an installation unless the one that is there was made from the same files by the same tool.
install() { # directory stamp command…
  local directory=$1 stamp=$2
  shift 2
  [ "$(cat "$directory/.stamp" 2> /dev/null)" = "$stamp" ] && return
  "$@" && echo "$stamp" > "$directory/.stamp"
}

node_modules() { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; }
python_modules() {
  rm -rf .venv && python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --requirement python/requirements.txt
}

install node_modules "$(node --version) $(cat package.json package-lock.json | sha256sum)" node_modules || exit 1
install .venv "$(python3 --version) $(sha256sum < python/requirements.txt)" python_modules || exit 1

# An authority that every client of these suites trusts, and nobody else.
authority=$(mktemp -d)
output=$(mktemp)
trap 'rm -rf "$output" "$authority"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj '/CN=the authority of these tests' \
  -keyout "$authority/ca.key" -out "$authority/ca.pem" 2> /dev/null || exit 1
export NODE_EXTRA_CA_CERTS="$authority/ca.pem"

suites=("$@")
if [ ${#suites[@]} -eq 0 ]; then
  for file in *.test.mjs; do suites+=("${file%.test.mjs}"); done
  suites+=(python)
fi

report=() failed=0

run() {
  if [ "$1" = python ]; then
    (cd python && timeout 1000 ../.venv/bin/python -B -m unittest -v test_server_sdk test_tls test_reader) 2>&1
  else
    # pusher-js closes once more what the broker has closed, and the WebSocket of its Node build then keeps a timer for 30 s: hence the force.
    # The timeout is one for the whole file. It ends what hangs; what is waited for has its own, and is named when it does not come.
    timeout 1000 node --test --test-force-exit --test-concurrency=1 --test-timeout=900000 --test-reporter=spec "$1.test.mjs" 2>&1
  fi
}

for suite in "${suites[@]}"; do
  echo "== $suite"
  began=$(date +%s%N)
  run "$suite" | tee "$output"
  status=${PIPESTATUS[0]}
  # A suite without tests, or with one skipped, has not proved what it is here for.
  if grep -Eq '^ℹ (skipped|todo|cancelled) [1-9]|^ℹ tests 0$|^Ran 0 tests|skipped=' "$output"; then status=1; fi
  count=$(sed -nE 's/^ℹ tests ([0-9]+)$/\1/p; s/^Ran ([0-9]+) tests? in .*/\1/p' "$output" | tail -1)
  took=$(( ($(date +%s%N) - began) / 100000000 ))
  [ "$status" -eq 0 ] && verdict=ok || { verdict=FAILED; failed=$((failed + 1)); }
  report+=("$(printf '%-28s %4s tests %4d.%d s  %s' "$suite" "${count:-?}" $((took / 10)) $((took % 10)) "$verdict")")
done

echo
printf '%s\n' "${report[@]}"
echo "clients: ${#suites[@]} suites, $failed failed"
[ "$failed" -eq 0 ]
