from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('curation', '0004_evidence'),
    ]

    operations = [
        migrations.AddField(
            model_name='behaviour',
            name='prompt_values',
            field=models.JSONField(blank=True, default=dict, help_text='Seed to the value on each pasted example alone, in their order.'),
        ),
        migrations.AlterField(
            model_name='behaviour',
            name='kind',
            field=models.CharField(choices=[('mean_loss', 'Mean loss'), ('mean_margin', 'Mean margin'), ('label_probability', 'Probability of a label'), ('completion_log_probability', 'Log-probability of a completion'), ('completion_mean_log_probability', 'Log-probability of a completion, a token'), ('completion_preference', 'Preference between two completions'), ('perplexity', 'Perplexity'), ('token_class_probability', 'Probability of certain words next')], max_length=40),
        ),
    ]
