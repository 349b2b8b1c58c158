return {
  name = "verdict",
  fields = {
    { config = { type = "record", fields = { { most = { type = "integer", default = 1000, gt = 0 } } } } },
  },
}
