// What to type to get the same, each with a button that copies it. Of gr.HTML: `element`, `props`, `watch`.
const parts = { command: 'The same as a command', python: 'The same in Python' };

function renderCode() {
  const place = element.querySelector('.typed'), value = props.value;
  if (!place || !value) return;
  place.replaceChildren(
    ...Object.entries(parts).map(([name, label]) => {
      const head = document.createElement('div'), text = document.createElement('pre'), copy = document.createElement('button');
      const part = document.createElement('section');
      part.id = name;
      part.setAttribute('aria-label', label);
      text.textContent = value[name];
      text.tabIndex = 0;
      copy.type = 'button';
      copy.textContent = 'Copy';
      copy.addEventListener('click', async () => {
        getSelection().selectAllChildren(text); // what remains where a page may not write to the clipboard
        try {
          await navigator.clipboard.writeText(value[name]);
          copy.textContent = 'Copied';
        } catch {
          copy.textContent = document.execCommand('copy') ? 'Copied' : 'Press Ctrl-C';
        }
        setTimeout(() => (copy.textContent = 'Copy'), 2000);
      });
      head.append(label, copy);
      part.append(head, text);
      return part;
    }),
  );
}

watch('value', renderCode);
renderCode();
