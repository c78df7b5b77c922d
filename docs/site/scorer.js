// What is found is ordered by: the pages that explain before the signatures, these before the changes; a name of the code
// that is what was asked for first of all, one that merely holds it last.
var Scorer = {
  score: ([page, , , , score]) => {
    if (page.startsWith("how-to/") || page.startsWith("tutorial/")) return score + 3
    if (page.startsWith("explanation/")) return score + 2
    if (page === "changelog" || page === "contributing") return score - 4
    return page.startsWith("reference/") && !page.startsWith("reference/python/") ? score + 4 : score
  },
  objNameMatch: 14,
  objPartialMatch: -6,
  objPrio: { 0: 4, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
}
