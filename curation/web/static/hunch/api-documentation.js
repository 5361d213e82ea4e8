// Draws the API's own description; a script file, since the site allows no inline script.
"use strict";

SwaggerUIBundle({
  url: document.getElementById("api-documentation").dataset.description,
  dom_id: "#api-documentation",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
