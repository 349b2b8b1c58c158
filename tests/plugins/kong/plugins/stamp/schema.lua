return {
  name = "stamp",
  fields = {
    { config = { type = "record", fields = {
        { word = { type = "string", required = true } },
        { with = { type = "string", default = "..." } },
        { buffered = { type = "boolean", default = false } },
    } } },
  },
}
