//! The rules of the router without any index: every route is asked, the greatest rank wins. Tests hold [`super::Router`]
//! against it.

use super::condition::{Asked, Notes};
use super::order::Rank;
use super::route::HostPort;
use super::{Query, Reverse, Route, class_of, split_host};

/// The route that answers, and how much of the path it took.
pub(super) fn find<'a>(routes: &'a [Route], query: &Query<'_>) -> Option<(&'a Route, Option<usize>)> {
    let traditional = routes.iter().any(|route| route.traditional);
    let host = split_host(query.host, query.port_of_host(traditional));
    let spares_snis = !query.https && traditional;
    let plain = spares_snis.then(|| find_among(routes.iter().filter(|route| route.snis.is_empty()), query, host)).flatten();
    plain.or_else(|| find_among(routes.iter(), query, host))
}

fn find_among<'a>(routes: impl Iterator<Item = &'a Route>, query: &Query<'_>, host: HostPort<'_>) -> Option<(&'a Route, Option<usize>)> {
    let path = std::str::from_utf8(query.path).ok()?;
    let protocol = if query.https { "https" } else { "http" };
    let asked = Asked { query, path, host, protocol, without_snis: false };
    let mut best: Option<(Rank, &Route, Option<usize>)> = None;
    for route in routes {
        let takes = route.expression.is_none()
            && route.takes_protocol(protocol)
            && route.takes_host(host)
            && route.takes_method(query.method)
            && route.takes_headers(query.headers)
            && route.takes_sni(query);
        if let Some(expressed) = &route.expression {
            let mut notes = Notes::default();
            if route.takes_protocol(protocol) && expressed.condition.holds(asked, &mut notes) {
                let rank = Rank { priority: route.rules[0].priority, id: route.rules[0].id, path: Reverse(0) };
                if best.is_none_or(|(known, _, _)| rank > known) {
                    best = Some((rank, route, notes.path.map(|span| span.len)));
                }
            }
            continue;
        }
        if !takes {
            continue;
        }
        // The kind of host that matched counts in one flavour only.
        let matching = route.hosts().iter().filter(|pattern| route.traditional && pattern.matches(host));
        let class = matching.map(|pattern| class_of(pattern).added()).max().unwrap_or(0);
        for rule in &route.rules {
            let matched = if rule.paths.is_empty() {
                Some((0, None))
            } else {
                let mut paths = rule.paths.iter().enumerate();
                paths.find_map(|(at, pattern)| pattern.matched(path).map(|matched| (at, Some(matched.len))))
            };
            let Some((at, prefix)) = matched else { continue };
            let rank = Rank { priority: rule.priority | class, id: rule.id, path: Reverse(at as u32) };
            if best.is_none_or(|(known, _, _)| rank > known) {
                best = Some((rank, route, prefix));
            }
        }
    }
    best.map(|(_, route, prefix)| (route, prefix))
}
