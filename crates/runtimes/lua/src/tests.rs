//! What code may do, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use portcullis_plugin::script::{Engine as _, Functions};
use portcullis_plugin::testing::{TestRequest, answer, outcome, text_of};
use portcullis_plugin::{Body, Handler, Instance, Request};

use crate::{Lua, Settings, Untrusted};

fn limits() -> Settings {
    Settings { time_limit: Duration::from_millis(100), memory_limit: 16 << 20, ..Settings::default() }
}

fn access_with(settings: Settings, code: &[&str]) -> Arc<dyn Handler> {
    let access = code.iter().map(|code| (*code).to_owned()).collect();
    Lua::new(settings).functions("pre-function", Functions { access, ..Functions::default() }, &Instance::default()).unwrap()
}

fn access(code: &[&str]) -> Arc<dyn Handler> {
    access_with(limits(), code)
}

fn request() -> Request {
    TestRequest::get("/a/b?x=1&y").header("X-Ask", "yes").build()
}

/// The text an access function exits with.
fn said(code: &str) -> String {
    let ended = answer(access(&[code]).access(&mut request())).unwrap_or_else(|| panic!("no answer from {code}"));
    match ended.body {
        Body::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// What an access function that returns this says.
fn value(expression: &str) -> String {
    said(&format!("kong.response.exit(200, tostring({expression}))"))
}

#[test]
fn code_changes_the_request_that_goes_on() {
    let code = "kong.service.request.set_header('X-Answer', kong.request.get_header('x-ask')) kong.service.request.set_path('/z')";
    let mut request = request();
    assert_eq!(answer(access(&[code]).access(&mut request)), None);
    assert_eq!(text_of(&request.head.headers, "x-answer").as_deref(), Some("yes"));
    assert_eq!(request.upstream.path, b"/z");
}

#[test]
fn an_exit_ends_the_function_and_those_after_it() {
    let functions = access(&["kong.response.exit(201, 'one') error('not reached')", "kong.response.exit(200, 'two')"]);
    let ended = answer(functions.access(&mut request())).unwrap();
    assert_eq!((ended.status, ended.body), (201, Body::Bytes { content_type: None, bytes: b"one".to_vec() }));
}

#[test]
fn an_exit_inside_pcall_and_coroutines_ends_the_request_all_the_same() {
    assert_eq!(said("pcall(function() kong.response.exit(200, 'in') end) kong.response.exit(200, 'out')"), "in");
    assert_eq!(said("coroutine.wrap(function() kong.response.exit(200, 'in') end)() kong.response.exit(200, 'out')"), "in");
}

#[test]
fn a_function_given_keeps_its_state_between_requests() {
    let functions = access(&["local n = 0 return function() n = n + 1 kong.service.request.set_header('X-Count', n) end"]);
    for count in ["1", "2", "3"] {
        let mut request = request();
        assert_eq!(answer(functions.access(&mut request)), None);
        assert_eq!(text_of(&request.head.headers, "x-count").as_deref(), Some(count));
    }
}

#[test]
fn errors_tell_where_they_come_from() {
    let error = outcome(access(&["local a = nil\nreturn a.b"]).access(&mut request())).unwrap_err().to_string();
    assert!(error.contains("attempt to index") && error.contains(":2:") && error.contains("traceback"), "{error}");
}

#[test]
fn an_endless_loop_is_stopped_even_if_it_catches_errors() {
    for code in ["while true do end", "while true do pcall(function() while true do end end) end"] {
        let functions = access(&[code]);
        let error = outcome(functions.access(&mut request())).unwrap_err().to_string();
        assert!(error.contains("code ran for more than 100 ms"), "{error}");
        // The state goes on.
        assert_eq!(value("1 + 1"), "2");
    }
}

#[test]
fn a_memory_hog_is_stopped_and_others_go_on() {
    let patient = || Settings { time_limit: Duration::from_secs(20), ..limits() };
    let hogs = access_with(patient(), &["local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end"]);
    let error = outcome(hogs.access(&mut request())).unwrap_err().to_string();
    assert!(error.contains("not enough memory"), "{error}");
    assert_eq!(value("1 + 1"), "2");
    let kept = access_with(patient(), &["hoard = hoard or {} for i = 1, 1e9 do hoard[#hoard + 1] = ('x'):rep(1000) .. i end"]);
    assert!(outcome(kept.access(&mut request())).is_err());
    assert!(outcome(kept.access(&mut request())).is_err());
    assert_eq!(value("1 + 1"), "2");
}

#[test]
fn sandboxed_code_changes_nothing_of_others() {
    for code in ["string.extra = 1", "kong.request.get_header = nil", "ngx.now = nil", "getmetatable('').__index = {}", "require('os')"] {
        assert!(outcome(access(&[code]).access(&mut request())).is_err(), "{code}");
    }
    let trusting = Settings { untrusted: Untrusted::On, ..limits() };
    assert_eq!(outcome(access_with(trusting, &["require('cjson').encode({}) assert(io)"]).access(&mut request())).unwrap(), None);
    let refusing = Lua::new(Settings { untrusted: Untrusted::Off, ..limits() });
    assert!(refusing.check("return 1").unwrap_err().starts_with("loading of untrusted Lua code disabled"));
}

#[test]
fn expressions_of_ngx_re_match_and_replace() {
    assert_eq!(value(r"ngx.re.match('dock 42', [[(\w+) (?<n>\d+)]], 'jo').n"), "42");
    assert_eq!(value("ngx.re.find('hello', 'l+', 'jo')"), "3");
    assert_eq!(value("(ngx.re.gsub('a1b2', '([0-9])', '<$1>'))"), "a<1>b<2>");
    assert_eq!(value("(ngx.re.sub('abc', '(?=b)', '-'))"), "a-bc");
}

#[test]
fn code_may_wait() {
    let functions =
        access(&["ngx.sleep(0.001) coroutine.wrap(function() ngx.sleep(0.001) end)() kong.service.request.set_header('X-Done', '1')"]);
    let mut request = request();
    assert_eq!(outcome(functions.access(&mut request)).unwrap(), None);
    assert_eq!(text_of(&request.head.headers, "x-done").as_deref(), Some("1"));
}

#[test]
fn json_goes_both_ways() {
    let code = "local t = { list = { 1, 2 }, none = ngx.null, deep = { a = 'b' } } kong.response.exit(200, t)";
    let parsed: serde_json::Value = serde_json::from_str(&said(code)).unwrap();
    assert_eq!(parsed, serde_json::json!({ "list": [1, 2], "none": null, "deep": { "a": "b" } }));
}

#[test]
fn templates_see_the_request() {
    let lua = Lua::new(limits());
    let text = |template: &str| lua.template(template).unwrap().text(&request());
    assert_eq!(text("a $(headers['x-ask']) b").unwrap().as_deref(), Some("a yes b"));
    assert_eq!(text("$(query_params.x)").unwrap().as_deref(), Some("1"));
    assert_eq!(text("$(headers.absent)").unwrap(), None);
    assert_eq!(text("$(headers.absent or 'other')").unwrap().as_deref(), Some("other"));
    assert!(text("$(error('no'))").is_err());
    assert!(lua.template("$(if)").is_err());
}

/// What a call that fails says, without where.
fn complaint(code: &str) -> String {
    said(&format!("local _, e = pcall(function() {code} end) kong.response.exit(200, (tostring(e):gsub('^.-:%d+: ', '')))"))
}

#[test]
fn functions_complain_in_kongs_words() {
    for (code, words) in [
        (
            "kong.response.get_status()",
            "function cannot be called in access phase (only in: response, header_filter, body_filter, log, error, admin_api)",
        ),
        ("kong.response.set_raw_body('x')", "function cannot be called in access phase (only in: body_filter)"),
        (
            "kong.service.response.get_status()",
            "function cannot be called in access phase (only in: response, header_filter, body_filter, log)",
        ),
        ("kong.log.serialize()", "function cannot be called in access phase (only in: log)"),
        ("kong.client.tls.disable_http2_alpn()", "function cannot be called in access phase (only in: client_hello)"),
        ("kong.request.get_header(1)", "header name must be a string"),
        ("kong.request.get_query_arg()", "query argument name must be a string"),
        ("kong.request.get_headers('x')", "max_headers must be a number"),
        ("kong.request.get_headers(0)", "max_headers must be >= 1"),
        ("kong.request.get_query(1001)", "max_args must be <= 1000"),
        ("kong.response.exit('x')", "code must be a number"),
        ("kong.response.exit(99)", "code must be a number between 100 and 599"),
        ("kong.response.exit(200, 1)", "body must be a nil, string or table"),
        ("kong.response.exit(200, 'x', 1)", "headers must be a nil or table"),
        ("kong.response.error(200)", "code must be a number between 400 and 599"),
        ("kong.response.error(500, 1)", "message must be a nil, a string or a table"),
        ("kong.response.set_header('x')", "invalid header value for \"x\": got nil, expected array of string, string, number or boolean"),
        ("kong.response.set_header(1, 'x')", "invalid header name \"1\": got number, expected string"),
        ("kong.response.set_headers('x')", "headers must be a table"),
        ("kong.service.request.set_headers({ x = { 1 } })", "invalid header value in array \"x\": got number, expected string"),
        ("kong.service.set_target('a', 'b')", "port must be an integer"),
        ("kong.service.set_target('a', 70000)", "port must be an integer between 0 and 65535: given 70000"),
        ("kong.service.set_retries(-1)", "retries must be an integer between 0 and 32767: given -1"),
        ("kong.service.set_timeouts(1, 2, 0)", "read_timeout must be an integer between 1 and 2147483646: given 0"),
        ("kong.service.request.set_scheme('ftp')", "invalid scheme: ftp"),
        ("kong.service.request.set_path('x')", "path must start with /"),
        ("kong.service.request.set_method('x')", "invalid method: x"),
        ("kong.client.load_consumer('x')", "cannot load a consumer with an id that is not a uuid"),
        ("kong.client.authenticate()", "either credential or consumer must be provided"),
        ("kong.log.set_serialize_value(1, 2)", "key must be a string"),
    ] {
        assert_eq!(complaint(code), words, "{code}");
    }
}

#[test]
fn patterns_match_as_luajits_own_do() {
    let lua = mlua::Lua::new();
    let shown = |value: &mlua::Value| match value {
        mlua::Value::String(text) => text.to_string_lossy(),
        other => other.to_string().unwrap(),
    };
    let find: mlua::Function = lua.load("return function(s, p, at) return { string.find(s, p, at) } end").eval().unwrap();
    let subjects =
        ["", "a", "hello world", "  key = value  ", "(a(b)c)(d", "aaaa", "THE (quick) fox", "x=1, y=22", "\u{e9}t\u{e9}", "a.b-c"];
    let patterns = [
        "",
        "a",
        ".",
        "l+",
        "l*",
        "l-o",
        "^%s*(.-)%s*$",
        "(%w+)%s*=%s*(%w+)",
        "%b()",
        "%f[%w]%w+",
        "()ll()",
        "[^%s]+",
        "[a-c%-]+",
        "(a)%1",
        "a?b?c?",
        "[%a_][%w_]*",
        "%d+$",
        "^a",
        "$",
        "[]]",
        "[^]]",
        "%.",
        "(.)(.)",
        "%u%u+",
        "a-$",
        "[a-]",
        "(()a)",
    ];
    for subject in subjects {
        for pattern in patterns {
            for start in 0..=subject.len().min(2) {
                let theirs: Vec<mlua::Value> = find.call((subject, pattern, start + 1)).unwrap();
                let theirs: Vec<String> = theirs.iter().map(shown).collect();
                let ours = crate::pattern::find(subject.as_bytes(), pattern.as_bytes(), start).unwrap().map_or_else(Vec::new, |found| {
                    let text = |bytes: &[u8]| lua.create_string(bytes).unwrap().to_string_lossy();
                    let captures = found.captures.iter().map(|capture| match *capture {
                        crate::pattern::Capture::Text(from, to) => text(&subject.as_bytes()[from..to]),
                        crate::pattern::Capture::Place(at) => (at + 1).to_string(),
                    });
                    [(found.from + 1).to_string(), found.to.to_string()].into_iter().chain(captures).collect()
                });
                assert_eq!(ours, theirs, "{subject:?} {pattern:?} from {start}");
            }
        }
    }
}

#[test]
fn library_functions_that_take_long_are_stopped() {
    for code in [
        "local s = ('a'):rep(40) s:find(('a?'):rep(40) .. ('a'):rep(40))",
        "local s = ('a'):rep(3000) return s:match('.-.-.-.-b')",
        "local s = ('a'):rep(3000) return s:gsub('.-.-.-.-b', 'x')",
        "local s = ('a'):rep(3000) for _ in s:gmatch('.*.*.*.*b') do end",
        "local s = ('a'):rep(2e6) s:find(('a'):rep(1e6) .. 'b', 1, true)",
        "while true do ('x'):rep(1e6) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end",
        "local function f() return 1 + f() end f()",
    ] {
        let begun = std::time::Instant::now();
        let failed = outcome(access(&[code]).access(&mut request()));
        assert!(failed.is_err(), "{code}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{code}: {:?}", begun.elapsed());
        assert_eq!(value("1 + 1"), "2");
    }
}

#[test]
fn guarded_functions_give_what_lua_gives() {
    // Long enough for the matcher that looks at the clock.
    let long = "local s = (' '):rep(400) .. 'k = v' .. (' '):rep(400)";
    assert_eq!(said(&format!("{long} kong.response.exit(200, (s:match('^%s*(.-)%s*$')))")), "k = v");
    assert_eq!(
        said(&format!("{long} kong.response.exit(200, (s:gsub('%s*(%w)%s*=%s*(%w)%s*', '%2-%1-%0'):gsub('%s+', ' ')))")),
        "v-k- k = v "
    );
    assert_eq!(
        said(&format!(
            "{long} local n = 0 for a, b in s:gmatch('(%w)%s*=%s*(%w)%s*') do n = n + #a + #b end kong.response.exit(200, '' .. n)"
        )),
        "2"
    );
}

#[test]
fn light_threads_run_beside_each_other() {
    let trusting = Settings { untrusted: Untrusted::On, ..limits() };
    // The slow one waits until the quick one has been waited for.
    let code = "local gate, order = require('ngx.semaphore').new(0), {}
        local function work(name, wait) order[#order + 1] = name wait() order[#order + 1] = name return name, 1 end
        local slow = ngx.thread.spawn(work, 'slow', function() gate:wait(10) end)
        local quick = ngx.thread.spawn(work, 'quick', function() ngx.sleep(0.001) end)
        local failing = ngx.thread.spawn(function() error('no', 0) end)
        local ok, first = ngx.thread.wait(slow, quick)
        gate:post()
        local ok2, second = ngx.thread.wait(slow)
        local ok3, problem = ngx.thread.wait(failing)
        local killed = ngx.thread.spawn(work, 'killed', function() ngx.sleep(100) end)
        ngx.thread.kill(killed)
        kong.response.exit(200, table.concat(order, ' ') .. ': ' .. first .. ' ' .. second .. ' ' .. tostring(ok3) .. ' ' .. problem)";
    let ended = answer(access_with(trusting, &[code]).access(&mut request())).unwrap();
    let expected = "slow quick quick slow killed: quick slow false no";
    assert_eq!(ended.body, Body::Bytes { content_type: None, bytes: expected.as_bytes().to_vec() });
}

#[test]
fn a_semaphore_hands_over() {
    let trusting = Settings { untrusted: Untrusted::On, ..limits() };
    let code = "local one = require('ngx.semaphore').new(0)
        local waiting = ngx.thread.spawn(function() return one:wait(5) end)
        one:post()
        local _, got = ngx.thread.wait(waiting)
        local late, why = one:wait(0.001)
        kong.response.exit(200, tostring(got) .. ' ' .. tostring(late) .. ' ' .. why)";
    let ended = answer(access_with(trusting, &[code]).access(&mut request())).unwrap();
    assert_eq!(ended.body, Body::Bytes { content_type: None, bytes: b"true nil timeout".to_vec() });
}

#[test]
fn json_is_written_and_read_as_cjson_does() {
    let trusting = || Settings { untrusted: Untrusted::On, ..limits() };
    let with = |code: &str| {
        let code = format!("local cjson, safe = require('cjson'), require('cjson.safe') kong.response.exit(200, tostring({code}))");
        match answer(access_with(trusting(), &[&code]).access(&mut request())).unwrap().body {
            Body::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            other => format!("{other:?}"),
        }
    };
    for (code, text) in [
        ("cjson.encode({ url = 'http://x' })", r#"{"url":"http:\/\/x"}"#),
        ("cjson.encode({ 1, 2.5, true, cjson.null, 'a\\n' })", r#"[1,2.5,true,null,"a\n"]"#),
        ("cjson.encode({})", "{}"),
        ("cjson.encode(setmetatable({}, cjson.array_mt))", "[]"),
        ("cjson.encode(setmetatable({}, cjson.empty_array_mt))", "[]"),
        ("cjson.encode({ a = cjson.empty_array })", r#"{"a":[]}"#),
        ("cjson.encode(1/3)", "0.33333333333333"),
        ("select(2, safe.encode({ [1000] = 1 }))", "Cannot serialise table: excessively sparse array"),
        ("select(2, safe.encode(print))", "Cannot serialise function: type not supported"),
        ("select(2, safe.encode(0/0))", "Cannot serialise number: must not be NaN or Infinity"),
        ("select(2, safe.decode(''))", "Expected value but found T_END at character 1"),
        ("select(2, safe.decode('{\"a\":}'))", "Expected value but found T_OBJ_END at character 6"),
        ("select(2, safe.decode('[1 2]'))", "Expected comma or array end but found T_NUMBER at character 4"),
        ("select(2, safe.decode('nope'))", "Expected value but found invalid token at character 1"),
        ("safe.decode('\"\\\\u00e9\\\\ud83d\\\\ude00\"')", "\u{e9}\u{1f600}"),
        ("safe.decode('[1,[2,{\"a\":null}]]')[2][2].a == cjson.null", "true"),
        ("#safe.decode(('['):rep(200) .. (']'):rep(200))", "1"),
        ("(select(2, safe.decode(('['):rep(1e5))):gsub(' %b() at.*', ''))", "Found too many nested data structures"),
        (
            "(function() local t = {} for _ = 1, 1e4 do t = { t } end return select(2, safe.encode(t)) end)()",
            "Cannot serialise, excessive depth (201)",
        ),
        (
            "(function() local c = cjson.new() c.encode_escape_forward_slash(false) return c.encode('/') .. cjson.encode('/') end)()",
            r#""/""\/""#,
        ),
        (
            "(function() local c = cjson.new() c.decode_array_with_array_mt(true) return c.encode(c.decode('{\"a\":[]}')) end)()",
            r#"{"a":[]}"#,
        ),
    ] {
        assert_eq!(with(code), text, "{code}");
    }
}

#[test]
fn shared_dictionaries_are_bounded_and_hold_lists() {
    let settings = limits();
    settings.shared.size("small", 4096);
    let code = "local small = ngx.shared.small
        for i = 1, 100 do assert(small:set('k' .. i, ('x'):rep(100))) end
        local kept = #small:get_keys(0)
        local ok, problem = small:safe_set('big', ('x'):rep(2000))
        small:flush_all()
        small:rpush('l', 'a') small:rpush('l', 'b') small:lpush('l', 'c')
        local _, list = small:get('l')
        small:set('e', 1, 0.0000001, 7)
        local stale, flags, gone = small:get_stale('e')
        kong.response.exit(200, table.concat({ tostring(kept > 5 and kept < 30), tostring(ok), problem, small:llen('l'), small:lpop('l'),
          small:rpop('l'), list, small:incr('n', 2, 5), tostring(select(2, small:add('n', 1))), tostring(stale), tostring(flags), tostring(gone) }, ' '))";
    let ended = answer(access_with(settings, &[code]).access(&mut request())).unwrap();
    let expected = "true false no memory 3 c b value is a list 7 exists 1 7 true";
    assert_eq!(ended.body, Body::Bytes { content_type: None, bytes: expected.as_bytes().to_vec() });
}

#[test]
fn times_that_are_none_are_as_good_as_no_time() {
    assert_eq!(value("ngx.http_time(1e300)"), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(value("ngx.http_time(0/0)"), "Thu, 01 Jan 1970 00:00:00 GMT");
    let trusting = Settings { untrusted: Untrusted::On, ..limits() };
    let waits = "ngx.sleep(0/0) assert(not require('ngx.semaphore').new(0):wait(0/0))";
    assert_eq!(outcome(access_with(trusting, &[waits]).access(&mut request())).unwrap(), None);
}

#[test]
fn a_full_dictionary_lets_go_of_what_expired_and_then_of_what_is_oldest() {
    let kept = "local d, big = ngx.shared.kong_small, ('x'):rep(1000000) \
        d:set('old', big) d:set('short', big, 0.001) d:set('later', big) d:expire('later', 0.001) d:set('young', big) \
        local until_then = ngx.now() + 0.005 repeat ngx.update_time() until ngx.now() > until_then \
        d:set('a', big) d:set('b', big) \
        local one = tostring(d:get('old') ~= nil) .. tostring(d:get('short') ~= nil) .. tostring(d:get('later') ~= nil) \
        d:set('c', big) d:set('d', big) \
        kong.response.exit(200, one .. tostring(d:get('old') ~= nil) .. tostring(d:get('d') ~= nil))";
    assert_eq!(said(kept), "truefalsefalsefalsetrue");
}

#[test]
fn what_was_cut_off_is_said_to_be() {
    assert_eq!(value("select(2, kong.request.get_query(1))"), "truncated");
    assert_eq!(value("select(2, ngx.req.get_headers(1))"), "truncated");
    assert_eq!(value("select(2, ngx.req.get_uri_args())"), "nil");
}

#[test]
fn complaints_of_native_functions_are_text() {
    assert_eq!(value("select(2, pcall(kong.service.request.set_query, { a = pairs }))"), "attempt to use function as query arg value");
    assert_eq!(value("select(2, pcall(kong.service.request.set_query, { 1 }))"), "arg keys must be strings");
    assert_eq!(value("select('#', pcall(kong.service.request.clear_header, 'x'))"), "1");
}

#[test]
fn encodings_are_those_of_nginx() {
    assert_eq!(value("ngx.escape_uri(\"it's (a) b/c?\")"), "it's%20(a)%20b%2Fc%3F");
    assert_eq!(value("ngx.escape_uri('a b/c?d', 0)"), "a%20b/c%3Fd");
    assert_eq!(value("ngx.decode_base64('YQ')"), "a");
    assert_eq!(value("ngx.quote_sql_str('a\\nb\\'')"), "'a\\nb\\''");
}

#[test]
fn what_code_sets_shows_in_what_it_reads() {
    let code = "kong.service.request.set_header('Host', 'other.test') kong.service.request.set_raw_body('12345') \
        local h = kong.request.get_headers() kong.response.exit(200, h.host .. ' ' .. tostring(h['content-length']))";
    let mut request = TestRequest::new("POST", "/").body("text/plain", "1").header("Content-Length", "1").build();
    let ended = answer(access(&[code]).access(&mut request)).unwrap();
    assert_eq!(ended.body, Body::Bytes { content_type: None, bytes: b"other.test 5".to_vec() });
}

#[test]
fn variables_are_read_as_nginx_has_them() {
    assert_eq!(value("ngx.var.status .. ngx.var.bytes_sent .. ngx.var.upstream_host"), "0000");
    assert_eq!(value("ngx.var.upstream_uri"), "/a/b");
    assert_eq!(value("select(2, pcall(function() ngx.var.host = 'x' end))"), "variable not changeable");
}

/// Code that may require what it likes.
fn free_value(expression: &str) -> String {
    let settings = Settings { untrusted: Untrusted::On, ..limits() };
    let handler = access_with(settings, &[&format!("kong.response.exit(200, tostring({expression}))")]);
    match answer(handler.access(&mut request())).unwrap().body {
        Body::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kongs_tools_can_be_required() {
    for (expression, want) in [
        ("require('kong.tools.string').strip('  a b ')", "a b"),
        ("require('kong.tools.string').bytes_to_str(5497558, 'm')", "5.24 MiB"),
        ("require('kong.tools.string').parse_ngx_size('2k')", "2048"),
        ("select(2, require('kong.tools.string').validate_utf8('ab\\255'))", "3"),
        ("require('kong.tools.table').cycle_aware_deep_merge({ a = { b = 1 } }, { a = { c = 2 } }).a.b", "1"),
        ("#require('kong.tools.rand').random_string()", "32"),
        ("require('kong.tools.sha256').sha256_hex('')", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("require('kong.tools.http').parse_directive_header('no-store, Max-Age=5')['max-age']", "5"),
        ("require('kong.tools.ip').is_valid_cidr('10.0.0.0/33')", "false"),
        ("require('kong.tools.ip').is_valid_ip_or_cidr('::1/128')", "true"),
        ("require('kong.tools.uri').escape('/a b?')", "/a%20b?"),
        ("require('kong.tools.cjson').encode(require('kong.tools.cjson').decode_with_array_mt('[]'))", "[]"),
        ("require('kong.tools.uuid').is_valid_uuid(require('resty.jit-uuid')())", "true"),
        ("require('kong.tools.module').load_module_if_exists('nowhere')", "false"),
        ("table.isempty({}) and table.nkeys({ a = 1 })", "1"),
        ("require('kong.tools.utils').get_default_exit_body(502).message", "Bad gateway"),
    ] {
        assert_eq!(free_value(expression), want, "{expression}");
    }
}

#[test]
fn a_lock_is_held_by_one_until_it_is_given_back() {
    let code = "(function() local lock = require('resty.lock'); local one, two = lock:new('tools', { timeout = 0 }), lock:new('tools', { timeout = 0 }) \
        local first = one:lock('k'); local _, problem = two:lock('k'); one:unlock() \
        return first .. ' ' .. problem .. ' ' .. two:lock('k') end)()";
    assert_eq!(free_value(code), "0 timeout 0");
}

#[test]
fn a_repeated_header_is_a_list() {
    assert_eq!(value("(function() ngx.header['X-S'] = { 'a', 'b' } return table.concat(ngx.header.x_s, '+') end)()"), "a+b");
}
