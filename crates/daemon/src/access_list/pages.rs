//! The access list at the operator's endpoint.

use std::sync::Arc;

use aquatic_access_list::AccessListMode;
use aquatic_types::InfoHash;

use super::change;
use super::editor::{AccessListEditor, Changed};
use crate::edited_list::Names;
use crate::endpoint::{BODY_BYTES_MAX, Post, Request, Response};
use crate::json;
use crate::metrics_endpoint::MetricsEndpoint;

const PATH: &str = "/access-list";

const NAMES: Names = Names {
    list: "access list",
    path_key: "access_list.path",
    off: "there is no list, because `access_list.mode` is off: set it to allow or deny, and \
          restart",
};

/// Serves what the list is, and changes to it.
pub fn serve(endpoint: &mut MetricsEndpoint, editor: &Arc<AccessListEditor>) {
    let of_page = Arc::clone(editor);
    endpoint.serve_private_page(PATH, move |request| show(&of_page, request));
    let of_action = Arc::clone(editor);
    endpoint.serve_action(PATH, BODY_BYTES_MAX, move |post| edit(&of_action, post));
}

fn show(editor: &AccessListEditor, request: &Request<'_>) -> Response {
    let shared = editor.shared();
    let mode = match shared.mode() {
        AccessListMode::Off => "off",
        AccessListMode::Allow => "allow",
        AccessListMode::Deny => "deny",
    };
    let list = shared.present();
    let of_hash = match request.parameter("hash").map(str::parse::<InfoHash>) {
        None => String::new(),
        Some(Ok(hash)) => format!(",\"hash\":\"{hash}\",\"listed\":{}", list.contains(&hash)),
        Some(Err(error)) => return Response::json_error(400, &format!("`hash`: {error}")),
    };
    let entries = list.len();
    let body = format!("{{\"mode\":\"{mode}\",\"entries\":{entries}{of_hash}}}\n");
    Response::json(200, body)
}

fn edit(editor: &AccessListEditor, mut post: Post) -> Response {
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

fn tell(changed: &Changed) {
    let Changed {
        added,
        removed,
        total,
        written,
        ..
    } = changed;
    let where_else = if *written { " and in its file" } else { "" };
    log::info!(
        "access list changed at the endpoint{where_else}: {added} added, {removed} removed, \
         {total} info hashes"
    );
    if let Some(warning) = &changed.warning {
        log::warn!("access list: {warning}");
    }
}

fn words(changed: &Changed) -> String {
    let Changed {
        added,
        removed,
        already_there,
        not_there,
        total,
        written,
        warning,
    } = changed;
    let warning = warning.as_deref().map_or_else(String::new, |warning| {
        format!(",\"warning\":{}", json::string(warning))
    });
    format!(
        "{{\"added\":{added},\"removed\":{removed},\"already_there\":{already_there},\
         \"not_there\":{not_there},\"total\":{total},\"written\":{written}{warning}}}\n"
    )
}
