local typedefs = require "kong.db.schema.typedefs"

return {
  name = "notes",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { header = typedefs.header_name({ required = true, default = "X-Note" }) },
          { argument = { type = "string", required = true, default = "note", len_max = 20 } },
          { shades = { type = "array", elements = { type = "string", one_of = { "light", "dark" } }, default = {} } },
          { even = { type = "integer", custom_validator = function(value)
              if value % 2 == 0 then return true end
              return nil, "must be even"
            end } },
        },
        entity_checks = { { mutually_required = { "even", "shades" } } },
    } },
  },
}
