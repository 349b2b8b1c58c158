local words = {}

function words.replaced(text, word, with)
  return (text:gsub(word, function() return with end))
end

return words
