#!/bin/sh
# Runs assay gate in a CI job and reports it: a step summary where the CI has one, one comment on the pull request where
# there is a token for it. Any POSIX shell; curl and jq only for the comment. The exit code is that of assay gate.
#
#   ci/gate.sh [flags of assay gate]       run and report
#   ci/gate.sh --report BUNDLE EXIT        report a run that is there
#
# Environment, all optional:
#   ASSAY                program (assay)
#   GATE_BASELINE        side to compare with; else merge-base with the pull request's base, last-release without one
#   GATE_OUT             folder of the bundle (assay-gate)
#   GATE_FETCH           no: never fetch history; else a shallow clone is deepened
#   GATE_SUMMARY         file that the report is appended to (GITHUB_STEP_SUMMARY)
#   GATE_TOKEN           token that may comment (GITHUB_TOKEN); the build and both services never see it
#   GATE_COMMENT         no: never comment
#   GATE_NAME            tells the comments of several gates of one pull request apart (gate)
set -u

assay=${ASSAY:-assay}
out=${GATE_OUT:-assay-gate}
name=${GATE_NAME:-gate}
summary=${GATE_SUMMARY:-${GITHUB_STEP_SUMMARY:-}}
token=${GATE_TOKEN:-${GITHUB_TOKEN:-}}
# What is built and started below is the pull request's own code.
unset GATE_TOKEN GITHUB_TOKEN GH_TOKEN ACTIONS_RUNTIME_TOKEN ACTIONS_ID_TOKEN_REQUEST_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL

say() { printf '%s\n' "ci/gate.sh: $*" >&2; }

# verdict EXIT: its word
verdict() {
  case $1 in
    0) echo pass ;; 1) echo regression ;; 2) echo refused ;; 3) echo inconclusive ;; *) echo 'harness error' ;;
  esac
}

# deepen fetches the history that a merge base needs.
deepen() {
  [ "${GATE_FETCH:-yes}" != no ] || return 0
  [ "$(git rev-parse --is-shallow-repository 2>/dev/null)" = true ] || return 0
  say "this clone is shallow: git fetch --unshallow --tags"
  git fetch --quiet --unshallow --tags || say "the fetch failed; assay gate will say what it lacks"
}

# baseline prints the side to compare with.
baseline() {
  if [ -n "${GATE_BASELINE:-}" ]; then
    echo "$GATE_BASELINE"
  elif [ -n "${GITHUB_BASE_REF:-}" ]; then
    echo "merge-base:origin/$GITHUB_BASE_REF"
  else
    echo last-release
  fi
}

# run runs the gate; what it said is kept for runs that leave no bundle.
run() {
  deepen
  rm -rf "$out"
  log=$(mktemp)
  "$assay" gate --baseline "$(baseline)" --out "$out" "$@" >"$log" 2>&1
  code=$?
  cat "$log"
}

# report prints the page of the run as Markdown.
report() {
  if [ -f "$out/report.md" ]; then
    cat "$out/report.md"
    return
  fi
  printf '**assay gate: %s.** It left no report. The end of what it said:\n\n' "$(verdict "$code")"
  tail -n 20 "$log" | tr -d '\r' | cut -c 1-400 | sed 's/^/    /'
}

# recorded prints the exit code of the record: --inconclusive may have changed the one of the job.
recorded() {
  at=$(sed -n 's/^ *"exit": *\([0-9]\),*$/\1/p' "$out/verdicts.json" 2>/dev/null | tail -n 1)
  echo "${at:-$code}"
}

# outputs passes the result on to later steps of a GitHub job.
outputs() {
  [ -n "${GITHUB_OUTPUT:-}" ] || return 0
  printf 'exit=%s\nverdict=%s\nbundle=%s\n' "$code" "$(verdict "$(recorded)")" "$out" >>"$GITHUB_OUTPUT"
}

# pull prints the number of the pull request, if this job is of one.
pull() {
  case ${GITHUB_REF:-} in
    refs/pull/*/*) n=${GITHUB_REF#refs/pull/}; n=${n%%/*} ;;
    *) return 1 ;;
  esac
  case $n in '' | *[!0-9]*) return 1 ;; esac
  echo "$n"
}

# api METHOD PATH [FILE] calls GitHub. The token goes in through standard input: arguments can be read by every process.
api() {
  method=$1 path=$2
  set -- --silent --show-error --fail --max-time 30 --request "$method" --config - ${3:+--data-binary "@$3"}
  printf 'header = "Authorization: Bearer %s"\nheader = "Accept: application/vnd.github+json"\n' "$token" |
    curl "$@" "${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY$path"
}

# earlier NUMBER prints the comment that this gate left before.
earlier() {
  page=1
  while [ "$page" -le 30 ]; do
    answer=$(api GET "/issues/$1/comments?per_page=100&page=$page") || return 1
    id=$(printf '%s' "$answer" | jq -r --arg mark "$mark" 'map(select((.body // "") | startswith($mark))) | .[0].id // empty') || return 1
    [ -z "$id" ] || { echo "$id"; return 0; }
    [ "$(printf '%s' "$answer" | jq length)" -ge 100 ] || return 0
    page=$((page + 1))
  done
}

# comment writes or renews the one comment of this gate. Whatever goes wrong is said and changes no exit code: in a pull
# request from a fork the token can only read.
comment() {
  [ "${GATE_COMMENT:-yes}" != no ] || return 0
  if [ -z "$token" ] || [ -z "${GITHUB_REPOSITORY:-}" ]; then
    say "no token: no comment"
    return 0
  fi
  number=$(pull) || { say "no pull request: no comment"; return 0; }
  for tool in curl jq; do
    command -v "$tool" >/dev/null || { say "no $tool: no comment"; return 0; }
  done
  mark="<!-- assay gate: $name -->"
  body=$(mktemp)
  # GitHub takes 65,536 characters
  { printf '%s\n' "$mark"; report; } | head -c 60000 | jq --raw-input --slurp '{body: .}' >"$body"
  if id=$(earlier "$number") && if [ -n "$id" ]; then
    api PATCH "/issues/comments/$id" "$body" >/dev/null
  else
    api POST "/issues/$number/comments" "$body" >/dev/null
  fi; then
    say "commented on pull request $number"
  else
    say "the comment was refused (a token of a fork can not write): see the step summary"
  fi
  rm -f "$body"
}

if [ "${GITHUB_EVENT_NAME:-}" = pull_request_target ]; then
  say "refused: pull_request_target would run a fork's code with this repository's secrets; use pull_request"
  exit 2
fi
log=
if [ "${1:-}" = --report ]; then
  [ $# = 3 ] || { say "usage: ci/gate.sh --report BUNDLE EXIT"; exit 2; }
  out=$2 code=$3
  [ -f "$out/report.md" ] || { say "$out holds no report.md"; exit 2; }
else
  run "$@"
fi
[ -z "$summary" ] || report | head -c 1000000 >>"$summary" # GitHub takes 1 MiB
outputs
comment
[ -z "$log" ] || rm -f "$log"
exit "$code"
