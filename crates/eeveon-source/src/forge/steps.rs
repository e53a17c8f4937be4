//! How a person tells a forge to call.

use super::Provider;

/// Returns, step by step, how to add the hook `url` at the forge. The secret is not in it: it is shown
/// once, when the hook is made.
///
/// Sources: <https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks>,
/// <https://docs.gitlab.com/user/project/integrations/webhooks/>,
/// <https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/>,
/// <https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html>,
/// <https://docs.gitea.com/usage/webhooks>, <https://forgejo.org/docs/latest/user/webhooks/>,
/// <https://learn.microsoft.com/en-us/azure/devops/service-hooks/services/webhooks>,
/// <https://www.standardwebhooks.com/>.
pub fn steps(provider: Provider, url: &str) -> Vec<String> {
    let address = |field: &str| format!("{field}: {url}");
    let fixed = |text: &str| text.to_owned();
    match provider {
        Provider::GitHub => vec![
            fixed("open the repository, Settings, Webhooks, Add webhook"),
            address("Payload URL"),
            fixed("Content type: application/json"),
            fixed("Secret: the secret of this hook"),
            fixed("SSL verification: enabled"),
            fixed("events: pushes; also Releases if releases deploy (tags come with pushes)"),
            fixed("Add webhook; the ping under Recent Deliveries must be answered with 200"),
        ],
        Provider::GitLab => vec![
            fixed("open the project, Settings, Webhooks, Add new webhook"),
            address("URL"),
            fixed(
                "GitLab 19 and newer: let it generate a signing token (whsec_...), and make that the secret of this hook",
            ),
            fixed("older GitLab: Secret token: the secret of this hook, which must not begin with whsec_"),
            fixed("Trigger: Push events, Tag push events, and Releases events if releases deploy"),
            fixed("SSL verification: enabled"),
            fixed("Add webhook, then Test, Push events: it must be answered with 200"),
        ],
        Provider::BitbucketCloud => vec![
            fixed("open the repository, Repository settings, Webhooks, Add webhook"),
            address("URL"),
            fixed("Secret: the secret of this hook"),
            fixed("Triggers: Repository push (branches and tags)"),
            fixed("Save, turn on View requests, and push: the request must be answered with 200"),
        ],
        Provider::BitbucketDataCenter => vec![
            fixed("open the repository, Repository settings, Webhooks, Create webhook"),
            address("URL"),
            fixed("Secret: the secret of this hook"),
            fixed("SSL verification: enabled"),
            fixed("Events: Repository, Push (branches and tags)"),
            fixed(
                "Create, then push; older versions do not sign Test connection, and it is answered with 401",
            ),
        ],
        Provider::Gitea | Provider::Forgejo => {
            let name = if provider == Provider::Gitea { "Gitea" } else { "Forgejo" };
            vec![
                format!("open the repository, Settings, Webhooks, Add Webhook, {name}"),
                address("Target URL"),
                fixed("HTTP method: POST; POST content type: application/json"),
                fixed("Secret: the secret of this hook"),
                fixed("Trigger on: Push Events; or Custom Events with Push, and Release if releases deploy"),
                fixed(
                    "for an address in a private network the server needs it in ALLOWED_HOST_LIST of [webhook]",
                ),
                fixed("Add Webhook, then Test Delivery: it must be answered with 200"),
            ]
        }
        Provider::AzureDevOps => vec![
            fixed("open the project, Project settings, Service hooks, Create subscription, Web Hooks"),
            fixed("Trigger: Code pushed; choose the repository, and leave the branch at Any if tags deploy"),
            address("URL"),
            fixed(
                "the URL must be https: Azure signs nothing, so the password is all that protects the hook",
            ),
            fixed("Basic authentication username: eeveon; password: the secret of this hook"),
            fixed(
                "if a proxy in between uses Authorization itself: HTTP headers: X-EEveon-Token:SECRET instead",
            ),
            fixed("Resource details to send: All"),
            fixed("Test: it must be answered with 200; then Finish"),
        ],
        Provider::Generic => vec![
            address("send POST requests to"),
            fixed(
                "sign them after Standard Webhooks (https://www.standardwebhooks.com) with the secret of this hook, whsec_...",
            ),
            fixed(
                "headers: webhook-id, webhook-timestamp (seconds, at most 5 minutes off), webhook-signature (v1,...)",
            ),
            fixed(
                "body: {\"type\": \"push\", \"data\": {\"ref\": \"refs/heads/main\"}}, or refs/tags/NAME for a tag",
            ),
            fixed("or {\"type\": \"release\", \"data\": {\"tag\": \"NAME\"}}, or {\"type\": \"ping\"}"),
        ],
    }
}
