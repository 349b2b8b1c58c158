-- Puts a note, kept in a table of the plugin's own, into a header of the request.
local Notes = { PRIORITY = 500, VERSION = "1.2.3" }

local configured = 0

function Notes:init_worker()
  self.ready = true
end

function Notes:configure(configs)
  configured = configs and #configs or 0
end

local function load(title)
  local note, err = kong.db.notes:select_by_title(title)
  if err then return nil, err end
  return note
end

function Notes:access(conf)
  local title = kong.request.get_query_arg(conf.argument)
  if not title then return end
  local note, err = kong.cache:get(kong.db.notes:cache_key(title), { ttl = 0.001 }, load, title)
  if err then return kong.response.error(500, err) end
  if not note then return kong.response.exit(404, { message = "no such note" }) end
  local updated = assert(kong.db.notes:update({ id = note.id }, { reads = note.reads + 1 }))
  kong.service.request.set_header(conf.header, note.text)
  kong.ctx.plugin.reads = updated.reads
  kong.ctx.shared.ready = tostring(self.ready)
end

function Notes:header_filter()
  if kong.ctx.plugin.reads then
    kong.response.set_header("X-Reads", kong.ctx.plugin.reads)
    kong.response.set_header("X-Ready", kong.ctx.shared.ready)
    kong.response.set_header("X-Configured", configured)
  end
end

return Notes
