//! The keys at the operator's endpoint. All of it needs the token: keys are secrets.

use std::fmt::Write;
use std::sync::Arc;

use aquatic_keys::{Key, KeyMode};

use super::change;
use super::editor::{Changed, KeysEditor};
use crate::clock::{Clock, Now};
use crate::edited_list::Names;
use crate::endpoint::{BODY_BYTES_MAX, Post, Request, Response};
use crate::json;
use crate::metrics_endpoint::MetricsEndpoint;

const PATH: &str = "/keys";

const NAMES: Names = Names {
    list: "keys",
    path_key: "keys.path",
    off: "there are no keys, because `keys.mode` is off: set it to require, and restart",
};

/// Keys of an answer, if nothing else is asked for, and at most.
const SHOWN_DEFAULT: usize = 1_000;
const SHOWN_MAX: usize = 10_000;

/// Serves what the keys are, with their peers by the `clock` of the workers, and changes to them.
pub fn serve(endpoint: &mut MetricsEndpoint, editor: &Arc<KeysEditor>, clock: Clock) {
    let of_page = Arc::clone(editor);
    endpoint.serve_private_page(PATH, move |request| show(&of_page, clock, request));
    let of_action = Arc::clone(editor);
    endpoint.serve_action(PATH, BODY_BYTES_MAX, move |post| edit(&of_action, post));
}

fn show(editor: &KeysEditor, clock: Clock, request: &Request<'_>) -> Response {
    let number = |name: &str, default| match request.parameter(name).map(str::parse::<usize>) {
        None => Ok(default),
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => Err(Response::json_error(
            400,
            &format!("`{name}` must be a number"),
        )),
    };
    let (offset, limit) = match (number("offset", 0), number("limit", SHOWN_DEFAULT)) {
        (Ok(offset), Ok(limit)) if limit <= SHOWN_MAX => (offset, limit),
        (Ok(_), Ok(_)) => {
            return Response::json_error(400, &format!("`limit` must be {SHOWN_MAX} or less"));
        }
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let shared = editor.shared();
    let mode = match shared.mode() {
        KeyMode::Off => "off",
        KeyMode::Require => "require",
    };
    let list = shared.list();
    let mut keys: Vec<(&str, &Key)> = list.iter().collect();
    let shown = in_order(&mut keys, offset, limit);
    let now = Now::read(clock).seconds;
    let entries = list.len();
    let mut body = format!("{{\"mode\":\"{mode}\",\"entries\":{entries},\"keys\":[");
    for (place, (text, key)) in shown.iter().enumerate() {
        if place > 0 {
            body.push(',');
        }
        let active = shared.active_peers(key, now);
        append(&mut body, text, key, shared.has_ended(key), active);
    }
    body.push_str("]}\n");
    Response::json(200, body)
}

/// Some of the keys, in their order. The others are not sorted, since there may be very many.
fn in_order<'s, 'k>(
    keys: &'s mut [(&'k str, &'k Key)],
    offset: usize,
    limit: usize,
) -> &'s [(&'k str, &'k Key)] {
    let by_text = |(text, _): &(&'k str, &'k Key)| *text;
    let mut rest = keys;
    if offset > 0 {
        if offset >= rest.len() {
            return &[];
        }
        rest.select_nth_unstable_by_key(offset, by_text);
        (_, rest) = rest.split_at_mut(offset);
    }
    if limit < rest.len() {
        rest.select_nth_unstable_by_key(limit, by_text);
        (rest, _) = rest.split_at_mut(limit);
    }
    rest.sort_unstable_by_key(by_text);
    rest
}

fn append(body: &mut String, text: &str, key: &Key, has_ended: bool, active: Option<usize>) {
    let name = key.name.as_deref().map(json::string);
    let until = key.until.map(|until| json::string(&until.to_text()));
    // Writing to a string does not fail.
    let _ = write!(
        body,
        "{{\"key\":{},\"name\":{},\"peers_max\":{},\"until\":{},\"has_ended\":{has_ended},\
         \"active_peers\":{}}}",
        json::string(text),
        name.as_deref().unwrap_or("null"),
        or_null(key.peers_max),
        until.as_deref().unwrap_or("null"),
        or_null(active),
    );
}

fn or_null(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

fn edit(editor: &KeysEditor, mut post: Post) -> Response {
    let order = match change::parse(&mut post.body) {
        Ok(order) => order,
        Err(reason) => return Response::json_error(400, &reason),
    };
    // It may be large, and so may be the list.
    drop(post);
    match editor.change(order) {
        Ok(changed) => {
            tell(&changed);
            Response::json(200, words(&changed))
        }
        Err(refused) => refused.answer(&NAMES),
    }
}

fn tell(changes: &Changed) {
    let Changed {
        added,
        changed,
        removed,
        total,
        written,
        ..
    } = changes;
    let where_else = if *written { " and in their file" } else { "" };
    log::info!(
        "keys changed at the endpoint{where_else}: {added} added, {changed} changed, \
         {removed} removed, {total} keys"
    );
    if let Some(warning) = &changes.warning {
        log::warn!("keys: {warning}");
    }
}

fn words(changes: &Changed) -> String {
    let Changed {
        added,
        changed,
        removed,
        already_there,
        not_there,
        total,
        written,
        warning,
    } = changes;
    let warning = warning.as_deref().map_or_else(String::new, |warning| {
        format!(",\"warning\":{}", json::string(warning))
    });
    format!(
        "{{\"added\":{added},\"changed\":{changed},\"removed\":{removed},\
         \"already_there\":{already_there},\"not_there\":{not_there},\"total\":{total},\
         \"written\":{written}{warning}}}\n"
    )
}

#[cfg(test)]
mod tests {
    use aquatic_keys::KeyList;

    use super::*;

    #[test]
    fn a_part_of_the_keys_is_in_order() {
        let file: String = (10..99).rev().map(|it| format!("{it}\n")).collect();
        let list = KeyList::parse(file.as_bytes()).unwrap();
        for (offset, limit) in [(0, 0), (0, 5), (7, 20), (80, 20), (88, 1), (89, 5), (99, 9)] {
            let mut keys: Vec<_> = list.iter().collect();
            let shown = in_order(&mut keys, offset, limit);
            let shown: Vec<_> = shown.iter().map(|(text, _)| (*text).to_owned()).collect();
            let all = (10..99).map(|it| it.to_string());
            let expected: Vec<_> = all.skip(offset).take(limit).collect();
            assert_eq!(shown, expected, "{limit} from {offset}");
        }
    }
}
