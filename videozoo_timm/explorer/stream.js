// Gradio reads the answers to all events from one stream, which the server ends as soon as none is due. What is chosen
// while the end is on its way is taken for answered by that stream, and its answer waits on the server until another
// event opens a stream. So an event that changes nothing follows whenever this may have happened.
(() => {
  const { fetch } = window;
  let stream = null;
  window.fetch = async (...given) => {
    const path = new URL(given[0].url ?? given[0], location.href).pathname;
    if (path.endsWith('/queue/data') && given[0].signal) {
      const opened = (stream = { joined: false });
      given[0].signal.addEventListener('abort', () => {  // Gradio has seen the end
        if (stream === opened) stream = null;
        if (opened.joined) document.querySelector('#wake')?.click();
      });
    }
    const response = await fetch.apply(window, given);
    if (path.endsWith('/queue/join') && stream) stream.joined = true;
    return response;
  };
})();
