//! The rules of the router without any index: every route is asked, the greatest rank wins. Tests hold [`super::Router`]
//! against it.

use super::order::Rank;
use super::{Query, Reverse, Route, split_host};

/// The route that answers, and how much of the path it took.
pub(super) fn find<'a>(routes: &'a [Route], query: &Query<'_>) -> Option<(&'a Route, Option<usize>)> {
    let path = std::str::from_utf8(query.path).ok()?;
    let host = split_host(query.host, query.port);
    let mut best: Option<(Rank, &Route, Option<usize>)> = None;
    for route in routes {
        let takes =
            route.takes_host(host) && route.takes_method(query.method) && route.takes_headers(query.headers) && route.takes_sni(query);
        if !takes {
            continue;
        }
        for rule in &route.rules {
            let matched = if rule.paths.is_empty() {
                Some((0, None))
            } else {
                let mut paths = rule.paths.iter().enumerate();
                paths.find_map(|(at, pattern)| pattern.matched(path).map(|matched| (at, Some(matched))))
            };
            let Some((at, prefix)) = matched else { continue };
            let rank = Rank { priority: rule.priority, id: rule.id, path: Reverse(at as u32) };
            if best.is_none_or(|(known, _, _)| rank > known) {
                best = Some((rank, route, prefix));
            }
        }
    }
    best.map(|(_, route, prefix)| (route, prefix))
}
