// A field above the table of models that keeps the rows with all the words that are typed into it.
document.addEventListener('DOMContentLoaded', () => {
  for (const box of document.querySelectorAll('.models')) {
    const rows = [...box.querySelectorAll('tbody tr')];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const field = Object.assign(document.createElement('input'), {
      type: 'search',
      placeholder: 'Filter: say vit ssv2',
      ariaLabel: 'Filter the models',
    });
    const count = Object.assign(document.createElement('output'), { textContent: `${rows.length} models` });
    field.addEventListener('input', () => {
      const words = field.value.toLowerCase().split(/\s+/);
      rows.forEach((row, k) => { row.hidden = !words.every((word) => texts[k].includes(word)); });
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} models`;
    });
    box.prepend(field, count);
  }
});
