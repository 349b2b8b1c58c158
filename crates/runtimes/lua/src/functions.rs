//! Functions in configuration, by the phase they run in (pre-function, post-function).

use mlua::Function;
use portcullis_plugin::Phases;
use portcullis_plugin::script::Functions;

use crate::state::{Source, State};

/// See the module's description.
pub struct FunctionsCode(pub Functions);

impl FunctionsCode {
    pub fn phases(&self) -> Phases {
        let code = &self.0;
        let lists = [
            (&code.rewrite, Phases::REWRITE),
            (&code.access, Phases::ACCESS),
            (&code.header_filter, Phases::HEADER_FILTER),
            (&code.body_filter, Phases::BODY_FILTER),
            (&code.log, Phases::LOG),
        ];
        let used = lists.iter().filter(|(list, _)| !list.is_empty());
        let phases = used.fold(Phases::NONE, |phases, (_, phase)| phases.and(*phase));
        // Fields that a log function sets are for the log plugins behind it: what keeps them has to be there before.
        if phases.has(Phases::LOG) { phases.and(Phases::ACCESS) } else { phases }
    }

    pub fn wants_body(&self) -> bool {
        self.0.access.iter().any(|code| reads_body(code))
    }
}

/// Whether code mentions a function that reads the request's body.
pub fn reads_body(code: &str) -> bool {
    ["get_raw_body", "get_body", "read_body", "get_post_args", "body_data"].iter().any(|word| code.contains(word))
}

impl Source for FunctionsCode {
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>> {
        let code = &self.0;
        let lists = [&code.rewrite, &code.access, &code.header_filter, &code.body_filter, &code.log];
        let load = |list: &Vec<String>| {
            if list.is_empty() {
                return Ok(None);
            }
            let chunks = list.iter().map(|code| state.untrusted(code, None)).collect::<mlua::Result<Vec<_>>>()?;
            state.combined(chunks).map(Some)
        };
        lists.into_iter().map(load).collect()
    }
}
