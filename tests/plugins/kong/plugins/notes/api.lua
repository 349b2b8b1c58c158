return {
  ["/notes-summary/:prefix"] = {
    GET = function(self, db)
      local titles = {}
      for note, err in db.notes:each() do
        if err then return kong.response.exit(500, { message = err }) end
        if note.title:sub(1, #self.params.prefix) == self.params.prefix then titles[#titles + 1] = note.title end
      end
      table.sort(titles)
      return kong.response.exit(200, { count = #titles, titles = titles })
    end,
  },
}
