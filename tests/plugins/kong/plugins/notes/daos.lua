local typedefs = require "kong.db.schema.typedefs"

return {
  {
    name = "notes",
    primary_key = { "id" },
    endpoint_key = "title",
    cache_key = { "title" },
    generate_admin_api = true,
    fields = {
      { id = typedefs.uuid },
      { created_at = typedefs.auto_timestamp_s },
      { title = { type = "string", required = true, unique = true, match = "^%l+$" } },
      { text = { type = "string", required = true } },
      { reads = { type = "integer", default = 0 } },
    },
  },
}
