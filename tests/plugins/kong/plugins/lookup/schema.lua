local typedefs = require "kong.db.schema.typedefs"

return {
  name = "lookup",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = { type = "record", fields = {
        { url = typedefs.url({ required = true }) },
        { timeout = typedefs.timeout({ default = 2000 }) },
    } } },
  },
}
